package types

import "time"

// ExecSpec is what a vm:execute task runs. Command and Args go to the kernel as
// they are: no shell is involved.
type ExecSpec struct {
	Command     string            `json:"command" doc:"Program: a path, or a name looked up in PATH inside the VM." minLength:"1" maxLength:"4096"`
	Args        []string          `json:"args,omitempty" doc:"Its arguments, one string each."`
	Env         map[string]string `json:"env,omitempty" doc:"Added to the image's and the VM's environment."`
	Cwd         string            `json:"cwd,omitempty" doc:"Working directory; the image's if empty." maxLength:"4096"`
	User        string            `json:"user,omitempty" doc:"name, uid, name:group or uid:gid; root if empty." maxLength:"128"`
	Stdin       string            `json:"stdin,omitempty" doc:"Text fed to standard input, then end of file."`
	StdinBase64 []byte            `json:"stdin_base64,omitempty" doc:"The same for binary input."`
	StdinOpen   bool              `json:"stdin_open,omitempty" doc:"Keep standard input open for an attached client."`
	TTY         bool              `json:"tty,omitempty" doc:"Run on a pseudo-terminal; stdout and stderr become one."`
	Rows        int               `json:"rows,omitempty" doc:"Terminal rows."`
	Cols        int               `json:"cols,omitempty" doc:"Terminal columns."`
	Timeout     Duration          `json:"timeout,omitempty" doc:"After this the whole process group is killed; none if empty."`
	OutputLimit int64             `json:"output_limit_bytes,omitempty" doc:"Output kept, both streams together; what is over is counted and cut."`
}

// ExecResult is how a command ended.
type ExecResult struct {
	ExitCode int    `json:"exit_code" doc:"128+n after signal n; 127 if not found, 126 if not executable."`
	Signal   string `json:"signal,omitempty" doc:"The signal that ended it, as SIGKILL."`
	Reason   string `json:"reason,omitempty" doc:"Why it could not start, or what cut it short."`
	// Stdout and Stderr hold the first part; the whole is at /tasks/{id}/output.
	Stdout          string    `json:"stdout"`
	Stderr          string    `json:"stderr"`
	StdoutEncoding  string    `json:"stdout_encoding" doc:"utf-8, or base64 where the output is not UTF-8."`
	StderrEncoding  string    `json:"stderr_encoding"`
	StdoutBytes     int64     `json:"stdout_bytes" doc:"All that the command wrote."`
	StderrBytes     int64     `json:"stderr_bytes"`
	OutputTruncated bool      `json:"output_truncated,omitempty" doc:"The stored output is not all that was written."`
	OutputLeftOpen  bool      `json:"output_left_open,omitempty" doc:"A grandchild still held the output when the command ended."`
	StartedAt       time.Time `json:"started_at"`
	EndedAt         time.Time `json:"ended_at"`
}

// Stream names one of a command's outputs.
type Stream string

// The output streams.
const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
)

// OutputChunk is a piece of a command's output.
type OutputChunk struct {
	Offset       int64     `json:"offset" doc:"Position in both streams together, in bytes."`
	Stream       Stream    `json:"stream"`
	StreamOffset int64     `json:"stream_offset" doc:"Position in its own stream, in bytes."`
	At           time.Time `json:"at"`
	Data         []byte    `json:"data" doc:"Base64."`
}

// End is the offset after the chunk.
func (c OutputChunk) End() int64 { return c.Offset + int64(len(c.Data)) }

// Duration is a time.Duration that is written as a Go duration string.
type Duration time.Duration

// MarshalText writes "90s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads "90s".
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return InvalidField("duration", string(b), "is no duration", `use a number with a unit, as "90s" or "5m"`)
	}
	*d = Duration(v)
	return nil
}
