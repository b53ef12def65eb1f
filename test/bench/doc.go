// Package bench measures the platform side by side with Docker, bare runsc and
// raw Asynq, in one run on one machine, and holds it to what it promises. Run it
// with make bench, as root: its tests are built with the tag bench alone. It
// prints a table and writes bench-results/results.json and chart.svg.
//
// What is compared takes turns, one of each after the other, so that whatever
// the machine does meanwhile meets all alike.
package bench
