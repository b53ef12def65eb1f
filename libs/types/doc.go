// Package types holds the nouns of Aetherium: VMs, tasks, execs, workers,
// images and events, the states they pass through, and the kinds of error that
// every layer speaks. It imports nothing else of this module.
//
// The JSON form of each type is the REST form: snake_case names, times in
// RFC 3339 UTC, sizes in the unit that the field's name ends with, durations as
// Go duration strings ("90s").
package types
