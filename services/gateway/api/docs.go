package api

import (
	"bytes"
	"encoding/json"
	"html/template"
	"net/http"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
)

// docs are the OpenAPI document and its page for people, made once.
type docs struct {
	once sync.Once
	json []byte
	html []byte
	err  error
}

func (g *Gateway) registerDocs() {
	g.docs = &docs{}
	g.document(streamed{id: "openapi", method: http.MethodGet, path: "/api/v1/openapi.json", tag: "Service", summary: "This document, OpenAPI 3.1", media: "application/json"})
	g.document(streamed{id: "docs", method: http.MethodGet, path: "/api/v1/docs", tag: "Service", summary: "This document, for people", media: "text/html"})
	serve := func(media string, of func() []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			g.docs.once.Do(g.makeDocs)
			if g.docs.err != nil {
				panic(g.docs.err) // our own document has no JSON form
			}
			w.Header().Set("Content-Type", media)
			w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
			_, _ = w.Write(of())
		}
	}
	g.routes.HandleFunc("GET /api/v1/openapi.json", serve("application/json", func() []byte { return g.docs.json }))
	g.routes.HandleFunc("GET /api/v1/docs", serve("text/html; charset=utf-8", func() []byte { return g.docs.html }))
	g.routes.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/api/v1/docs", http.StatusSeeOther)
	})
}

func (g *Gateway) makeDocs() {
	doc := g.api.OpenAPI()
	for path := range doc.Paths {
		if path == "/healthz" || path == "/readyz" { // the same as below /api/v1
			delete(doc.Paths, path)
		}
	}
	if g.docs.json, g.docs.err = json.MarshalIndent(doc, "", "  "); g.docs.err != nil {
		return
	}
	var page bytes.Buffer
	g.docs.err = docsPage.Execute(&page, docsOf(doc))
	g.docs.html = page.Bytes()
}

// docGroup is the operations of one tag.
type docGroup struct {
	Name, Description string
	Operations        []docOperation
}

type docOperation struct {
	*huma.Operation
	Body *huma.Schema
	Curl string
}

func docsOf(doc *huma.OpenAPI) map[string]any {
	var groups []docGroup
	for _, tag := range doc.Tags {
		group := docGroup{Name: tag.Name, Description: tag.Description}
		for _, item := range doc.Paths {
			for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Delete} {
				if op != nil && slices.Contains(op.Tags, tag.Name) {
					group.Operations = append(group.Operations, docOperation{op, bodyOfOperation(doc, op), curl(op)})
				}
			}
		}
		sort.Slice(group.Operations, func(i, j int) bool {
			a, b := group.Operations[i], group.Operations[j]
			return a.Path+a.Method < b.Path+b.Method
		})
		groups = append(groups, group)
	}
	return map[string]any{"Info": doc.Info, "Groups": groups}
}

func bodyOfOperation(doc *huma.OpenAPI, op *huma.Operation) *huma.Schema {
	if op.RequestBody == nil || op.RequestBody.Content["application/json"] == nil {
		return nil
	}
	s := op.RequestBody.Content["application/json"].Schema
	if s.Ref != "" {
		s = doc.Components.Schemas.SchemaFromRef(s.Ref)
	}
	return s
}

// curl is an example of a call.
func curl(op *huma.Operation) string {
	var b strings.Builder
	b.WriteString("curl ")
	if op.Method != http.MethodGet {
		b.WriteString("-X " + op.Method + " ")
	}
	if op.RequestBody != nil && op.RequestBody.Content["application/json"] != nil {
		example := "{}"
		if op.OperationID == "executeInVM" {
			example = `{"command":"uname","args":["-a"]}`
		}
		b.WriteString("-H 'Content-Type: application/json' -d '" + example + "' ")
	}
	path := strings.NewReplacer("{vm}", "my-vm", "{task}", "$TASK", "{worker}", "$WORKER", "{port}", "8000", "{rest}", "").Replace(op.Path)
	b.WriteString("'http://localhost:8080" + path + "'")
	return b.String()
}

var docsPage = template.Must(template.New("docs").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Info.Title}} API</title>
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0 } h2 { margin-top: 3rem; border-bottom: 1px solid var(--line) }
details { border: 1px solid var(--line); border-radius: .4rem; margin: .5rem 0 } summary { padding: .5rem .75rem; cursor: pointer }
details > div { padding: 0 .75rem .75rem } .m { display: inline-block; min-width: 4rem; font-weight: 600 }
code, pre { font: .875rem/1.5 ui-monospace, monospace } pre { background: var(--soft); padding: .5rem; overflow: auto; border-radius: .3rem }
td, th { text-align: left; padding: .15rem 1rem .15rem 0; vertical-align: top; border-bottom: 1px solid var(--soft) } table { border-collapse: collapse }
</style></head><body>
<h1>{{.Info.Title}} API</h1>
<p>Version {{.Info.Version}}. {{.Info.Description}} The <a href="/api/v1/openapi.json">OpenAPI 3.1 document</a> says the same to programs.
Errors are problems of RFC 9457, with the offending field and a remedy.</p>
{{range .Groups}}<h2>{{.Name}}</h2><p>{{.Description}}</p>
{{range .Operations}}<details id="{{.OperationID}}"><summary><span class="m">{{.Method}}</span> <code>{{.Path}}</code> — {{.Summary}}</summary><div>
{{with .Description}}<p>{{.}}</p>{{end}}
{{if .Parameters}}<table><tr><th>Parameter</th><th>In</th><th></th></tr>
{{range .Parameters}}<tr><td><code>{{.Name}}</code></td><td>{{.In}}</td><td>{{.Description}}</td></tr>{{end}}</table>{{end}}
{{with .Body}}<table><tr><th>Field of the body</th><th>Type</th><th></th></tr>
{{range $name, $s := .Properties}}<tr><td><code>{{$name}}</code></td><td>{{$s.Type}}</td><td>{{$s.Description}}</td></tr>{{end}}</table>{{end}}
<pre>{{.Curl}}</pre></div></details>
{{end}}{{end}}</body></html>
`))
