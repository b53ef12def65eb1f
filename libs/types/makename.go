package types

import (
	"fmt"
	"math/rand/v2"
)

var (
	adjectives = []string{
		"able", "amber", "bold", "brave", "brisk", "calm", "clear", "clever", "cool", "crisp", "daring", "deep",
		"eager", "early", "fair", "fine", "fresh", "gentle", "glad", "golden", "grand", "green", "happy", "honest",
		"keen", "kind", "light", "lively", "lucky", "mellow", "merry", "mild", "neat", "noble", "plain", "proud",
		"quick", "quiet", "rapid", "ready", "silent", "silver", "smart", "snowy", "steady", "sunny", "swift", "tidy",
		"true", "vivid", "warm", "wise", "witty", "young",
	}
	nouns = []string{
		"acorn", "badger", "beacon", "birch", "bison", "breeze", "brook", "canyon", "cedar", "cliff", "cloud", "comet",
		"coral", "crane", "creek", "delta", "dune", "eagle", "ember", "falcon", "fern", "finch", "fjord", "forest",
		"fox", "glade", "grove", "harbor", "hawk", "heron", "hill", "island", "lake", "lark", "maple", "meadow",
		"moon", "oak", "otter", "owl", "pebble", "pine", "reef", "ridge", "river", "robin", "sparrow", "spruce",
		"star", "stone", "swan", "tide", "valley", "willow",
	}
)

// MakeName makes up a name for a VM, as "calm-otter-4f1c". It need not be
// secret, only unlikely to be taken; the store refuses a name that is.
func MakeName() string {
	return fmt.Sprintf("%s-%s-%04x", adjectives[rand.IntN(len(adjectives))], nouns[rand.IntN(len(nouns))], rand.IntN(1<<16)) //nolint:gosec // no secret
}
