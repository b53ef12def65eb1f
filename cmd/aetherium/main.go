// Command aetherium is the server: the embedded platform in one process (up), or
// its parts (gateway, worker), and what keeps them in order (migrate, doctor,
// cleanup).
package main

import (
	"context"
	"os"
)

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) }
