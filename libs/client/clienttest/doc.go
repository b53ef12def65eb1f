// Package clienttest is a server for tests of whatever calls the REST API: it
// speaks the API's contract as far as a client sees it, runs "commands" that are
// Go functions, and breaks connections where a test wants it. It isolates
// nothing and keeps nothing.
package clienttest
