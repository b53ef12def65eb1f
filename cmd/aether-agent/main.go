// Command aether-agent is the program inside a VM that runs what the platform
// asks for. It is static, needs nothing of the image, and is started as the VM's
// first process.
package main

import (
	"context"
	"os"

	"github.com/aetherium/aetherium/services/core/agent"
)

// version is set by the linker.
var version = "dev"

func main() { os.Exit(agent.Main(context.Background(), version, os.Args[1:], os.Stdout, os.Stderr)) }
