package direct

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aetherium/aetherium/libs/agentapi"
	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/guest"
	"github.com/aetherium/aetherium/services/core/runtime"
)

// FileInfo is a file of a guest, as JSON.
type FileInfo struct {
	Name       string    `json:"name"`
	Path       string    `json:"path"`
	Size       int64     `json:"size"`
	Mode       string    `json:"mode"` // octal, as "0644"
	Type       string    `json:"type"` // file, dir, symlink, device, fifo, socket
	LinkTarget string    `json:"link_target,omitempty"`
	ModifiedAt time.Time `json:"modified_at"`
	UID        uint32    `json:"uid"`
	GID        uint32    `json:"gid"`
}

func infoOf(f *agentapi.FileInfo) FileInfo {
	return FileInfo{
		Name: f.GetName(), Path: f.GetPath(), Size: f.GetSize(), Mode: fmt.Sprintf("%04o", f.GetMode()), Type: f.GetType(),
		LinkTarget: f.GetLinkTarget(), ModifiedAt: f.GetModifiedAt().AsTime(), UID: f.GetUid(), GID: f.GetGid(),
	}
}

// target answers the guest and the path that a request names.
func (f *face) target(r *http.Request) (*guest.Client, string, error) {
	path := r.URL.Query().Get("path")
	if !strings.HasPrefix(path, "/") {
		return nil, "", types.InvalidField("path", path, "is no absolute path", "start it with /")
	}
	g, err := f.guest(r)
	return g, path, err
}

func flag(r *http.Request, name string) (bool, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return false, nil
	}
	v, err := strconv.ParseBool(s)
	if err != nil {
		return false, types.InvalidField(name, s, "is neither true nor false", "use true or false")
	}
	return v, nil
}

func parseMode(s string) (uint32, error) {
	if s == "" {
		return 0, nil
	}
	v, err := strconv.ParseUint(s, 8, 32)
	if err != nil || v > 0o7777 {
		return 0, types.InvalidField("mode", s, "is no file mode", "use an octal number, as 0644")
	}
	return uint32(v), nil
}

func (f *face) fileInfo(w http.ResponseWriter, r *http.Request) error {
	follow, err := flag(r, "follow")
	if err != nil {
		return err
	}
	g, path, err := f.target(r)
	if err != nil {
		return err
	}
	info, err := g.Stat(r.Context(), path, follow)
	if err != nil {
		return err
	}
	return answerJSON(w, infoOf(info))
}

func (f *face) listFiles(w http.ResponseWriter, r *http.Request) error {
	g, path, err := f.target(r)
	if err != nil {
		return err
	}
	files, err := g.ListDir(r.Context(), path)
	if err != nil {
		return err
	}
	items := make([]FileInfo, len(files))
	for i, file := range files {
		items[i] = infoOf(file)
	}
	return answerJSON(w, map[string]any{"items": items})
}

func (f *face) readFile(w http.ResponseWriter, r *http.Request) error {
	g, path, err := f.target(r)
	if err != nil {
		return err
	}
	info, err := g.Stat(r.Context(), path, true)
	if err != nil {
		return err
	}
	if info.GetType() == "dir" {
		return types.InvalidField("path", path, "is a folder", "list it, or read it as an archive")
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Accept-Ranges", "bytes")
	h.Set("Last-Modified", info.GetModifiedAt().AsTime().UTC().Format(http.TimeFormat))
	// Files of /proc and the like say that they are empty and are not: those are
	// read to their end, and in whole.
	size := info.GetSize()
	part, ok, err := parseRange(r.Header.Get("Range"), size)
	if err != nil {
		h.Set("Content-Range", fmt.Sprintf("bytes */%d", size))
		return err
	}
	status := http.StatusOK
	if ok && size > 0 {
		status = http.StatusPartialContent
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.offset, part.offset+part.length-1, size))
	} else {
		part = span{0, size}
	}
	if size > 0 {
		h.Set("Content-Length", strconv.FormatInt(part.length, 10))
	}
	if r.Method == http.MethodHead {
		w.WriteHeader(status)
		return nil
	}
	return g.Read(r.Context(), path, part.offset, part.length, &lateStatus{w, status, false})
}

// lateStatus writes the status with the first byte, so that an error before it
// can still be answered as one.
type lateStatus struct {
	http.ResponseWriter
	status int
	done   bool
}

func (l *lateStatus) Write(p []byte) (int, error) {
	if !l.done {
		l.done = true
		l.ResponseWriter.WriteHeader(l.status)
	}
	return l.ResponseWriter.Write(p)
}

// span is a part of a file.
type span struct{ offset, length int64 }

// parseRange reads a Range header with one range (RFC 9110, section 14). Others
// are ignored, as the RFC allows; one that lies outside the file is an error.
func parseRange(s string, size int64) (span, bool, error) {
	spec, ok := strings.CutPrefix(s, "bytes=")
	if !ok || strings.Contains(spec, ",") {
		return span{}, false, nil
	}
	from, to, ok := strings.Cut(strings.TrimSpace(spec), "-")
	if !ok {
		return span{}, false, nil
	}
	first, last := int64(0), size-1
	switch a, errA := strconv.ParseInt(from, 10, 64); {
	case from == "":
		n, err := strconv.ParseInt(to, 10, 64)
		if err != nil || n < 0 {
			return span{}, false, nil
		}
		first = max(size-n, 0)
		if n == 0 {
			first = size
		}
	case errA != nil || a < 0:
		return span{}, false, nil
	default:
		first = a
		if b, err := strconv.ParseInt(to, 10, 64); err == nil && b < last {
			if b < a {
				return span{}, false, nil
			}
			last = b
		} else if err != nil && to != "" {
			return span{}, false, nil
		}
	}
	if first >= size && size > 0 {
		return span{}, false, types.InvalidField("Range", s, fmt.Sprintf("lies outside the file of %d bytes", size), "ask for a part that is there")
	}
	return span{first, last - first + 1}, true, nil
}

func (f *face) writeFile(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	mode, err := parseMode(q.Get("mode"))
	if err != nil {
		return err
	}
	parents, err := flag(r, "parents")
	if err != nil {
		return err
	}
	g, path, err := f.target(r)
	if err != nil {
		return err
	}
	opts := guest.WriteOptions{Path: path, Mode: mode, User: q.Get("user"), MakeParents: parents}
	n, err := g.Write(r.Context(), opts, f.upload(w, r))
	if err != nil {
		return tooLarge(err)
	}
	return answerJSON(w, map[string]any{"path": path, "bytes": n})
}

// upload is the body of a request that carries a file, up to the limit.
func (f *face) upload(w http.ResponseWriter, r *http.Request) io.Reader {
	return http.MaxBytesReader(w, r.Body, f.MaxUpload)
}

func tooLarge(err error) error {
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return types.Errorf(types.KindTooLarge, "the upload is larger than %d bytes", e.Limit)
	}
	return err
}

func (f *face) removeFile(w http.ResponseWriter, r *http.Request) error {
	recursive, err := flag(r, "recursive")
	if err != nil {
		return err
	}
	g, path, err := f.target(r)
	if err != nil {
		return err
	}
	if err := g.Remove(r.Context(), path, recursive); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (f *face) makeDir(w http.ResponseWriter, r *http.Request) error {
	var ask struct {
		Path    string `json:"path"`
		Mode    string `json:"mode"`
		Parents bool   `json:"parents"`
	}
	if err := readJSON(w, r, &ask); err != nil {
		return err
	}
	mode, err := parseMode(ask.Mode)
	if err != nil {
		return err
	}
	g, err := f.guest(r)
	if err != nil {
		return err
	}
	if err := g.MakeDir(r.Context(), ask.Path, mode, ask.Parents); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (f *face) moveFile(w http.ResponseWriter, r *http.Request) error {
	var ask struct {
		From string `json:"from"`
		To   string `json:"to"`
	}
	if err := readJSON(w, r, &ask); err != nil {
		return err
	}
	g, err := f.guest(r)
	if err != nil {
		return err
	}
	if err := g.Move(r.Context(), ask.From, ask.To); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (f *face) readArchive(w http.ResponseWriter, r *http.Request) error {
	g, path, err := f.target(r)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-tar")
	return g.Archive(r.Context(), path, w)
}

func (f *face) writeArchive(w http.ResponseWriter, r *http.Request) error {
	g, path, err := f.target(r)
	if err != nil {
		return err
	}
	entries, bytes, err := g.Extract(r.Context(), path, f.upload(w, r))
	if err != nil {
		return tooLarge(err)
	}
	return answerJSON(w, map[string]any{"entries": entries, "bytes": bytes})
}

// Stats is what a VM uses, as JSON.
type Stats struct {
	Outside Outside `json:"outside"`
	Inside  Inside  `json:"inside"`
}

// Outside is what the VM uses of its host, with the runtime's own.
type Outside struct {
	MemoryBytes uint64         `json:"memory_bytes"`
	CPUTime     types.Duration `json:"cpu_time"`
	DiskBytes   uint64         `json:"disk_bytes"`
	Processes   int            `json:"processes"`
}

// Inside is what the guest sees of itself.
type Inside struct {
	Uptime           types.Duration `json:"uptime"`
	CPUTime          types.Duration `json:"cpu_time"`
	MemoryTotalBytes uint64         `json:"memory_total_bytes"`
	MemoryUsedBytes  uint64         `json:"memory_used_bytes"`
	DiskTotalBytes   uint64         `json:"disk_total_bytes"`
	DiskUsedBytes    uint64         `json:"disk_used_bytes"`
	Processes        uint32         `json:"processes"`
	ExecsRunning     uint32         `json:"execs_running"`
	Clock            time.Time      `json:"clock"`
}

func statsOf(o runtime.Stats, i *agentapi.StatsResponse) Stats {
	return Stats{
		Outside: Outside{MemoryBytes: o.MemoryBytes, CPUTime: types.Duration(o.CPUTime), DiskBytes: o.DiskBytes, Processes: o.Processes},
		Inside: Inside{
			Uptime: types.Duration(i.GetUptime().AsDuration()), CPUTime: types.Duration(i.GetCpuTime().AsDuration()),
			MemoryTotalBytes: i.GetMemoryTotalBytes(), MemoryUsedBytes: i.GetMemoryUsedBytes(),
			DiskTotalBytes: i.GetDiskTotalBytes(), DiskUsedBytes: i.GetDiskUsedBytes(),
			Processes: i.GetProcesses(), ExecsRunning: i.GetExecsRunning(), Clock: i.GetClock().AsTime(),
		},
	}
}
