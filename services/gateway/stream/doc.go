// Package stream is the gateway's live side: it waits for tasks to end, follows
// output and events as server-sent events, speaks WebSocket with whoever is
// attached to a command, and passes files, ports and tunnels on to the worker
// that has the VM.
//
// What it shows comes from the store; what the queue publishes only wakes it up.
// So nothing here hangs or lies when Redis is away. It knows no operation of the
// REST surface by path: package api calls it.
package stream
