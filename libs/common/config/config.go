// Package config weighs a program's settings: defaults, then a YAML file, then
// the environment, then flags, the last the most. The flags are the one list of
// what there is; --help documents it.
package config

import (
	"errors"
	"fmt"
	"io"
	"os"
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
// the environment or the file (which may be empty for none). It answers all
// errors at once.
func Apply(flags *pflag.FlagSet, file string, env func(string) (string, bool)) error {
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
		if !fromFile {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			errs = append(errs, types.InvalidField(key, shown(f, value), "cannot be read from "+source, "see --help for its form"))
		}
	})
	for key := range values {
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
	if err := yaml.Unmarshal(b, &raw); err != nil {
		return nil, types.Errorf(types.KindInvalid, "%s is no YAML: %w", path, err)
	}
	for k, v := range raw {
		values[strings.ReplaceAll(k, "-", "_")] = fmt.Sprint(v)
	}
	return values, nil
}

// Show prints the settings as a file that Apply reads, secrets masked.
func Show(flags *pflag.FlagSet, w io.Writer) error {
	var err error
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || f.Name == "config" || err != nil {
			return
		}
		_, err = fmt.Fprintf(w, "%s: %q\n", strings.ReplaceAll(f.Name, "-", "_"), shown(f, f.Value.String()))
	})
	return err
}

func shown(f *pflag.Flag, value string) string {
	if len(f.Annotations[secret]) > 0 && value != "" {
		return "********"
	}
	return value
}
