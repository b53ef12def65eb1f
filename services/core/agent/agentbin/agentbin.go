// Package agentbin carries the built guest agent, so that one binary of the
// server is all that a host needs.
package agentbin

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/aetherium/aetherium/libs/types"
)

// dist holds aether-agent-linux-ARCH for each architecture; make build puts them
// there.
//
//go:embed all:dist
var dist embed.FS

// Extract writes the agent for this machine's architecture into a folder, under a
// name that its content gives, and answers its path. It is there whole or not at
// all.
func Extract(dir string) (string, error) {
	name := "aether-agent-linux-" + runtime.GOARCH
	program, err := dist.ReadFile("dist/" + name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", types.Errorf(types.KindUnsupported, "this aetherium was built without its guest agent (%s)", name).WithRemedy("build it with make build")
	}
	if err != nil {
		return "", types.Errorf(types.KindInternal, "read the embedded agent: %w", err)
	}
	sum := sha256.Sum256(program)
	path := filepath.Join(dir, "aether-agent-"+hex.EncodeToString(sum[:8]))
	if info, err := os.Stat(path); err == nil && info.Size() == int64(len(program)) {
		return path, nil
	}
	return path, install(path, program)
}

func install(path string, program []byte) error {
	wrap := func(err error) error {
		if err == nil {
			return nil
		}
		return types.Errorf(types.KindUnavailable, "install the guest agent: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return wrap(err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".aether-agent-*")
	if err != nil {
		return wrap(err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone by then, if all went well
	_, err = f.Write(program)
	err = errors.Join(err, f.Chmod(0o555), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return wrap(err)
}
