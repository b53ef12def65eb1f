// Command aether-cli is the client: it creates VMs, runs commands in them and
// copies files, on any Aetherium server.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], world{in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.Getenv}))
}
