// Package config weighs a program's settings: defaults, then a YAML file, then
// the environment, then flags, the last the most. The flags are the one list of
// what there is; --help documents it.
package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"github.com/aetherium/aetherium/libs/types"
)

// envPrefix begins the names of environment variables: AETHERIUM_DATA_DIR is
// --data-dir.
const envPrefix = "AETHERIUM_"

// secret annotates the flags whose values are never shown.
const secret = "secret"

// Secret marks a flag's value as one that is never shown.
func Secret(flags *pflag.FlagSet, name string) {
	if err := flags.SetAnnotation(name, secret, []string{"true"}); err != nil {
		panic(err) // the flag does not exist: a mistake in this program
	}
}

// EnvName is the environment variable of a flag.
func EnvName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Apply gives the flags that were not set on the command line their values from
// the environment or the file (which may be empty for none). Several programs
// may share a file: what is a setting of another one, by known, is passed over.
// It answers all errors at once.
func Apply(flags *pflag.FlagSet, file string, env func(string) (string, bool), known func(flag string) bool) error {
	values, err := readFile(file)
	if err != nil {
		return err
	}
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		key := strings.ReplaceAll(f.Name, "-", "_")
		value, fromFile := values[key]
		delete(values, key)
		if f.Changed {
			return
		}
		source := file
		if v, ok := env(EnvName(f.Name)); ok {
			value, fromFile, source = v, true, EnvName(f.Name)
		}
		if !fromFile || value == "" && f.Value.Type() == "stringToString" {
			return // pflag takes no empty text for an empty map
		}
		if err := flags.Set(f.Name, value); err != nil {
			errs = append(errs, types.InvalidField(key, shown(f, value), "cannot be read from "+source, "see --help for its form"))
		}
	})
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if known(strings.ReplaceAll(key, "_", "-")) {
			continue
		}
		errs = append(errs, types.InvalidField(key, "…", "is no setting, in "+file, "see --help for those there are"))
	}
	return errors.Join(errs...)
}

func readFile(path string) (map[string]string, error) {
	values := map[string]string{}
	if path == "" {
		return values, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, types.Errorf(types.KindInvalid, "read the configuration: %w", err)
	}
	var raw map[string]any
	if err := yaml.Unmarshal(b, &raw, exactNumbers); err != nil {
		return nil, types.Errorf(types.KindInvalid, "%s is no YAML of names and values: %w", path, err)
	}
	for k, v := range raw {
		values[strings.ReplaceAll(k, "-", "_")] = text(v)
	}
	return values, nil
}

func exactNumbers(d *json.Decoder) *json.Decoder {
	d.UseNumber() // 1000000 shall not become 1e+06
	return d
}

// text writes a value as its flag takes it: lists as a,b and maps as k=v,k=v.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = text(e)
		}
		return strings.Join(parts, ",")
	case map[string]any:
		parts := make([]string, 0, len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, k+"="+text(v[k]))
		}
		return strings.Join(parts, ",")
	}
	return fmt.Sprint(v)
}

// Show prints the settings as a file that Apply reads, secrets masked.
func Show(flags *pflag.FlagSet, w io.Writer) error {
	var err error
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || f.Name == "config" || err != nil {
			return
		}
		value := f.Value.String()
		switch f.Value.Type() {
		case "stringSlice", "stringToString":
			value = strings.Trim(value, "[]") // pflag writes them so, and does not read them so
		}
		_, err = fmt.Fprintf(w, "%s: %q\n", strings.ReplaceAll(f.Name, "-", "_"), shown(f, value))
	})
	return err
}

func shown(f *pflag.Flag, value string) string {
	if len(f.Annotations[secret]) > 0 && value != "" {
		return "********"
	}
	return value
}
