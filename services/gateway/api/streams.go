package api

import (
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/aetherium/aetherium/libs/common/problem"
	"github.com/aetherium/aetherium/services/gateway/stream"
)

// streamed is an operation that answers other than by one JSON body, or whose
// answer is a worker's. The document describes it all the same.
type streamed struct {
	id, method, path, tag, summary, description string
	query                                       []string // parameters: name, what it says
	media                                       string   // of the answer
	answer                                      any      // its JSON form, if it has one
	status                                      int      // 200 if zero
	body                                        string   // media type of the request's body, if any
	handle                                      http.HandlerFunc
}

func (g *Gateway) registerStreams() {
	s := g.streams
	const inside, octets, webSocket = "Inside a VM", "application/octet-stream", "WebSocket"
	for _, o := range []streamed{
		{id: "taskOutput", method: http.MethodGet, path: "/api/v1/tasks/{task}/output", tag: "Tasks", summary: "Read a command's output, or follow it",
			description: "JSON pages by default. With Accept: text/event-stream or follow=true, server-sent events: output (its id is the next offset; Last-Event-ID resumes) and, last, end with the task. With raw=true, the bytes themselves.",
			query:       []string{"offset", "Where to begin, in bytes: in both streams together, or in the one that is named.", "stream", "stdout or stderr; both if empty.", "limit", "About how many bytes a page has.", "follow", "Go on until the task has ended.", "raw", "The bytes alone."},
			media:       "application/json", answer: stream.OutputPage{}, handle: s.TaskOutput},
		{id: "attachTask", method: http.MethodGet, path: "/api/v1/tasks/{task}/attach", tag: "Tasks", summary: "Attach to a command (" + webSocket + ")",
			description: "Subprotocol " + stream.Protocol + ". Binary messages, the first byte says what they are. To the client: 1 stdout and 2 stderr (8 bytes big-endian offset, data), 3 the end (JSON), 5 a gap (JSON). From the client: 0 stdin (8 bytes big-endian offset, data), 4 control (JSON: resize, signal, stdin_eof).",
			query:       []string{"offset", "Where to begin, in both streams together."}, status: http.StatusSwitchingProtocols, handle: s.Attach},
		{id: "shell", method: http.MethodGet, path: "/api/v1/vms/{vm}/shell", tag: inside, summary: "Open a terminal in a VM (" + webSocket + ")",
			description: "Makes a vm:execute task on a terminal and attaches to it; the first message is 6 and the task's id (JSON).",
			query:       []string{"command", "Program; a login shell if empty.", "args", "Its arguments; may be repeated.", "user", "Who runs it.", "cwd", "Where.", "rows", "Terminal rows.", "cols", "Terminal columns.", "term", "TERM."}, status: http.StatusSwitchingProtocols, handle: s.Shell},
		{id: "events", method: http.MethodGet, path: "/api/v1/events", tag: "Fleet", summary: "What has changed, or changes from now on",
			description: "JSON pages, or server-sent events with Accept: text/event-stream; Last-Event-ID resumes.",
			query:       []string{"vm", "Only of this VM.", "task", "Only of this task.", "type", "Only of this type; may be repeated.", "after", "Only after this id.", "limit", "At most so many."},
			media:       "application/json", answer: stream.EventPage{}, handle: s.Events},
		{id: "readFile", method: http.MethodGet, path: "/api/v1/vms/{vm}/files", tag: inside, summary: "Read a file", query: []string{"path", "Absolute path in the VM."}, media: octets, handle: s.VM},
		{id: "writeFile", method: http.MethodPut, path: "/api/v1/vms/{vm}/files", tag: inside, summary: "Write a file, whole or not at all", body: octets,
			query: []string{"path", "Absolute path in the VM.", "mode", "Octal, as 0644.", "parents", "Make the folders it is in.", "user", "Its owner."}, media: "application/json", handle: s.VM},
		{id: "removeFile", method: http.MethodDelete, path: "/api/v1/vms/{vm}/files", tag: inside, summary: "Remove a file or folder", query: []string{"path", "Absolute path in the VM.", "recursive", "With all that is in it."}, status: http.StatusNoContent, handle: s.VM},
		{id: "fileInfo", method: http.MethodGet, path: "/api/v1/vms/{vm}/files/info", tag: inside, summary: "Describe a file", query: []string{"path", "Absolute path in the VM.", "follow", "Look through a link."}, media: "application/json", handle: s.VM},
		{id: "listFiles", method: http.MethodGet, path: "/api/v1/vms/{vm}/files/list", tag: inside, summary: "List a folder", query: []string{"path", "Absolute path in the VM."}, media: "application/json", handle: s.VM},
		{id: "makeDir", method: http.MethodPost, path: "/api/v1/vms/{vm}/files/mkdir", tag: inside, summary: "Make a folder: {path, mode, parents}", body: "application/json", status: http.StatusNoContent, handle: s.VM},
		{id: "moveFile", method: http.MethodPost, path: "/api/v1/vms/{vm}/files/move", tag: inside, summary: "Rename a file or folder: {from, to}", body: "application/json", status: http.StatusNoContent, handle: s.VM},
		{id: "readArchive", method: http.MethodGet, path: "/api/v1/vms/{vm}/files/archive", tag: inside, summary: "Read a path as a tar", query: []string{"path", "Absolute path in the VM."}, media: "application/x-tar", handle: s.VM},
		{id: "writeArchive", method: http.MethodPut, path: "/api/v1/vms/{vm}/files/archive", tag: inside, summary: "Unpack a tar into a folder", body: "application/x-tar", query: []string{"path", "Absolute path in the VM."}, media: "application/json", handle: s.VM},
		{id: "vmStats", method: http.MethodGet, path: "/api/v1/vms/{vm}/stats", tag: inside, summary: "What a VM uses", media: "application/json", handle: s.VM},
		{id: "tunnel", method: http.MethodGet, path: "/api/v1/vms/{vm}/tunnels/{port}", tag: inside, summary: "TCP to a port inside a VM (" + webSocket + ")", description: "Binary messages carry the bytes both ways.", status: http.StatusSwitchingProtocols, handle: s.Tunnel},
		{id: "port", method: http.MethodGet, path: "/api/v1/vms/{vm}/ports/{port}/{rest}", tag: inside, summary: "HTTP to a port inside a VM",
			description: "Any method, WebSockets too. What the VM answers is sandboxed: it has no origin of the gateway's.", media: "*/*"},
	} {
		g.document(o)
		if o.handle != nil {
			g.routes.HandleFunc(o.method+" "+o.path, o.handle)
		}
	}
	g.routes.HandleFunc("/api/v1/vms/{vm}/ports/{port}", s.Port)
	g.routes.HandleFunc("/api/v1/vms/{vm}/ports/{port}/{rest...}", s.Port)
}

// document adds an operation to the OpenAPI document.
func (g *Gateway) document(o streamed) {
	registry := g.api.OpenAPI().Components.Schemas
	op := &huma.Operation{
		OperationID: o.id, Method: o.method, Path: o.path, Summary: o.summary, Description: o.description, Tags: []string{o.tag},
		Responses: map[string]*huma.Response{
			"default": {Description: "A problem", Content: map[string]*huma.MediaType{problem.ContentType: {Schema: registry.Schema(reflect.TypeFor[problem.Problem](), true, "")}}},
		},
	}
	text := &huma.Schema{Type: huma.TypeString}
	for _, name := range []string{"vm", "task", "port", "rest"} {
		if containsParam(o.path, name) {
			op.Parameters = append(op.Parameters, &huma.Param{Name: name, In: "path", Required: true, Schema: text})
		}
	}
	for i := 0; i+1 < len(o.query); i += 2 {
		op.Parameters = append(op.Parameters, &huma.Param{Name: o.query[i], In: "query", Description: o.query[i+1], Required: o.query[i] == "path", Schema: text})
	}
	if o.body != "" {
		op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{o.body: {Schema: bodySchema(o.body)}}}
	}
	if o.status == 0 {
		o.status = http.StatusOK
	}
	response := &huma.Response{Description: http.StatusText(o.status)}
	if o.media != "" {
		schema := bodySchema(o.media)
		if o.answer != nil {
			schema = registry.Schema(reflect.TypeOf(o.answer), true, "")
		}
		response.Content = map[string]*huma.MediaType{o.media: {Schema: schema}}
	}
	op.Responses[strconv.Itoa(o.status)] = response
	g.api.OpenAPI().AddOperation(op)
}

func containsParam(path, name string) bool { return strings.Contains(path, "{"+name+"}") }

func bodySchema(media string) *huma.Schema {
	if media == "application/json" {
		return &huma.Schema{Type: huma.TypeObject}
	}
	return &huma.Schema{Type: huma.TypeString, Format: "binary"}
}
