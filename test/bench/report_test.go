//go:build bench

package bench

import (
	"cmp"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// series is how long one thing took, again and again.
type series struct {
	Group   string    `json:"group"`
	Name    string    `json:"name"`
	N       int       `json:"n"`
	P50     float64   `json:"p50_ms"`
	P90     float64   `json:"p90_ms"`
	P99     float64   `json:"p99_ms"`
	Max     float64   `json:"max_ms"`
	Samples []float64 `json:"samples_ms"`
}

func (s *series) add(d time.Duration) { s.Samples = append(s.Samples, float64(d.Microseconds())/1000) }

// measure adds how long do took.
func (s *series) measure(do func()) {
	began := time.Now()
	do()
	s.add(time.Since(began))
}

func (s *series) sum() {
	sorted := slices.Sorted(slices.Values(s.Samples))
	at := func(q float64) float64 { return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)] }
	s.N, s.P50, s.P90, s.P99, s.Max = len(sorted), at(0.5), at(0.9), at(0.99), sorted[len(sorted)-1]
}

// goal is a promise and what became of it. At most, unless AtLeast.
type goal struct {
	What    string  `json:"what"`
	Value   float64 `json:"value"`
	Limit   float64 `json:"limit"`
	Unit    string  `json:"unit"`
	AtLeast bool    `json:"at_least,omitempty"`
	Met     bool    `json:"met"`
}

// report is all that a run found.
type report struct {
	At      time.Time `json:"at"`
	CPUs    int       `json:"cpus"`
	Kernel  string    `json:"kernel"`
	Series  []*series `json:"series"`
	Figures []figure  `json:"figures"`
	Goals   []goal    `json:"goals"`
}

// figure is a number with no promise attached.
type figure struct {
	What  string  `json:"what"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

func newReport() *report {
	r := &report{At: time.Now().UTC(), CPUs: runtime.NumCPU()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		r.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	return r
}

func (r *report) series(group, name string) *series {
	s := &series{Group: group, Name: name}
	r.Series = append(r.Series, s)
	return s
}

func (r *report) figure(what string, value float64, unit string) {
	r.Figures = append(r.Figures, figure{what, value, unit})
}

func (r *report) atMost(what string, value, limit float64, unit string) {
	r.Goals = append(r.Goals, goal{what, value, limit, unit, false, value <= limit})
}

func (r *report) atLeast(what string, value, limit float64, unit string) {
	r.Goals = append(r.Goals, goal{what, value, limit, unit, true, value >= limit})
}

func (r *report) print(out io.Writer) {
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format, args...) }
	say("\n%-54s %5s %9s %9s %9s %9s\n", "milliseconds", "n", "p50", "p90", "p99", "max")
	for _, s := range r.Series {
		say("%-54s %5d %9.2f %9.2f %9.2f %9.2f\n", s.Group+": "+s.Name, s.N, s.P50, s.P90, s.P99, s.Max)
	}
	say("\n%-54s %9s\n", "figures", "")
	for _, f := range r.Figures {
		say("%-54s %9.2f %s\n", f.What, f.Value, f.Unit)
	}
	say("\n%-54s %9s %11s\n", "goals", "reached", "promised")
	for _, g := range r.Goals {
		say("%-54s %9.2f %s %9.2f %-8s %s\n", g.What, g.Value, g.sign(), g.Limit, g.Unit, g.verdict())
	}
}

func (g goal) sign() string {
	if g.AtLeast {
		return "≥"
	}
	return "≤"
}

func (g goal) verdict() string {
	if g.Met {
		return "met"
	}
	return "MISSED"
}

// write leaves the run's numbers and a chart in a folder.
func (r *report) write(t testing.TB, dir string) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	b, err := json.MarshalIndent(r, "", "  ")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "results.json"), append(b, '\n'), 0o644))
	f, err := os.Create(filepath.Join(dir, "chart.svg"))
	must(t, err)
	must(t, chart.Execute(f, r.bars()))
	must(t, f.Close())
}

// bar is one line of the chart, in its pixels.
type bar struct {
	Group              string // set on a group's first bar
	Name, Text         string
	Y, Width, Tail     float64
	Ours               bool // drawn in our color
	TextX, GroupY, Mid float64
}

type drawing struct {
	Title, Note string
	Height      float64
	Bars        []bar
}

const (
	left, room = 300.0, 520.0 // where bars begin, and how long the longest is
	line, gap  = 24.0, 34.0
)

// bars lays the series out: each group on a scale of its own.
func (r *report) bars() drawing {
	longest := map[string]float64{}
	for _, s := range r.Series {
		longest[s.Group] = max(longest[s.Group], s.P99)
	}
	d := drawing{
		Title: "Aetherium beside Docker, bare runsc and Asynq",
		Note:  fmt.Sprintf("%s · %d CPUs · Linux %s · bar: median, line: 99th percentile, each group on its own scale", r.At.Format(time.DateOnly), r.CPUs, r.Kernel),
	}
	y, group := 70.0, ""
	for _, s := range r.Series {
		b := bar{Name: s.Name, Text: fmt.Sprintf("%.1f ms (p99 %.1f)", s.P50, s.P99), Ours: !strings.HasPrefix(s.Name, "docker") && !strings.HasPrefix(s.Name, "bare")}
		if s.Group != group {
			y += gap
			b.Group, b.GroupY, group = s.Group, y-10, s.Group
		}
		scale := room / cmp.Or(longest[s.Group], 1)
		b.Y, b.Width, b.Tail = y, s.P50*scale, left+s.P99*scale
		b.Mid, b.TextX = y+line/2-3, b.Tail+8
		d.Bars = append(d.Bars, b)
		y += line
	}
	d.Height = y + 20
	return d
}

var chart = template.Must(template.New("chart").Parse(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 {{.Height}}" font-family="system-ui, sans-serif" font-size="13">
<rect width="100%" height="100%" fill="#fff"/>
<text x="20" y="34" font-size="20" font-weight="600" fill="#111">{{.Title}}</text>
<text x="20" y="56" fill="#555" font-size="12">{{.Note}}</text>
{{range .Bars}}{{if .Group}}<text x="20" y="{{.GroupY}}" font-weight="600" fill="#111">{{.Group}}</text>
{{end}}<text x="290" y="{{.Mid}}" dy="4" text-anchor="end" fill="#333">{{.Name}}</text>
<rect x="300" y="{{.Y}}" width="{{.Width}}" height="18" rx="2" fill="{{if .Ours}}#2563eb{{else}}#9ca3af{{end}}"/>
<line x1="300" x2="{{.Tail}}" y1="{{.Mid}}" y2="{{.Mid}}" stroke="#111" stroke-opacity=".45"/>
<text x="{{.TextX}}" y="{{.Mid}}" dy="4" fill="#333">{{.Text}}</text>
{{end}}</svg>
`))
