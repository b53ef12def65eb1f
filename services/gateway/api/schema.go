package api

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/aetherium/aetherium/libs/common/problem"
	"github.com/aetherium/aetherium/libs/types"
)

// schemasKey is where an operation's metadata has the document's schemas.
const schemasKey = "schemas"

// humaConfig is huma's plain configuration with our own document, errors and
// JSON, and without its own pages, which load assets from elsewhere.
func humaConfig(version string) huma.Config {
	if version == "" {
		version = "dev"
	}
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	for t, alias := range map[reflect.Type]reflect.Type{
		reflect.TypeFor[types.Duration]():    reflect.TypeFor[durationSchema](),
		reflect.TypeFor[types.VMState]():     reflect.TypeFor[vmStateSchema](),
		reflect.TypeFor[types.TaskState]():   reflect.TypeFor[taskStateSchema](),
		reflect.TypeFor[types.TaskType]():    reflect.TypeFor[taskTypeSchema](),
		reflect.TypeFor[types.Priority]():    reflect.TypeFor[prioritySchema](),
		reflect.TypeFor[types.NetworkMode](): reflect.TypeFor[networkSchema](),
		reflect.TypeFor[types.Kind]():        reflect.TypeFor[kindSchema](),
		reflect.TypeFor[types.Stream]():      reflect.TypeFor[streamSchema](),
		reflect.TypeFor[answer]():            reflect.TypeFor[problem.Problem](),
	} {
		registry.RegisterTypeAlias(t, alias)
	}
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "Aetherium", Version: version,
				Description: "Runs commands in isolated VMs. What works in the background answers 202 with its task; `wait` holds the answer until the task has ended.",
				License:     &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
			},
			Components: &huma.Components{Schemas: registry},
			OnAddOperation: []huma.AddOpFunc{func(_ *huma.OpenAPI, op *huma.Operation) {
				if op.Metadata == nil {
					op.Metadata = map[string]any{}
				}
				op.Metadata[schemasKey] = registry
			}},
			Tags: []*huma.Tag{
				{Name: "VMs", Description: "Isolated machines."},
				{Name: "Inside a VM", Description: "Files, ports, terminals and figures. These reach the VM's worker directly."},
				{Name: "Tasks", Description: "Durable pieces of work, their output and how they end."},
				{Name: "Fleet", Description: "Workers, images and what has changed."},
				{Name: "Service", Description: "This gateway itself."},
			},
		},
		Formats:       map[string]huma.Format{"application/json": {Marshal: marshal, Unmarshal: unmarshal}, "json": {Marshal: marshal, Unmarshal: unmarshal}},
		DefaultFormat: "application/json",

		RejectUnknownQueryParameters: true,
	}
}

func marshal(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// unmarshal reads JSON. It refuses what is not UTF-8 (RFC 8259, section 8.1),
// where encoding/json would put other characters in its place.
func unmarshal(data []byte, v any) error {
	if !utf8.Valid(data) {
		return fmt.Errorf("the body is not UTF-8; binary data goes into fields that take base64")
	}
	return json.Unmarshal(data, v)
}

// The types below stand in for the nouns' own in the document, where they say
// more than their Go type does.
type (
	durationSchema  string
	vmStateSchema   string
	taskStateSchema string
	taskTypeSchema  string
	prioritySchema  string
	networkSchema   string
	kindSchema      string
	streamSchema    string
)

func (durationSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeString, Pattern: `^(0|[-+]?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$`,
		PatternDescription: `a duration, as "90s" or "5m"`, Examples: []any{"90s"},
	}
}

func (vmStateSchema) Schema(huma.Registry) *huma.Schema   { return enum(types.VMStates()...) }
func (taskStateSchema) Schema(huma.Registry) *huma.Schema { return enum(types.TaskStates()...) }
func (taskTypeSchema) Schema(huma.Registry) *huma.Schema  { return enum(types.TaskTypes()...) }
func (prioritySchema) Schema(huma.Registry) *huma.Schema  { return enum(types.Priorities()...) }
func (kindSchema) Schema(huma.Registry) *huma.Schema      { return enum(types.Kinds()...) }
func (streamSchema) Schema(huma.Registry) *huma.Schema    { return enum(types.Stdout, types.Stderr) }
func (networkSchema) Schema(huma.Registry) *huma.Schema {
	return enum(types.NetworkNAT, types.NetworkNone)
}

func enum[S ~string](values ...S) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, v := range values {
		s.Enum = append(s.Enum, string(v))
	}
	return s
}
