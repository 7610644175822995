package catalog

import "vmcastfs/xvm/seekable"

// InflateMemory bounds what the decoders of each of the two kinds take together,
// however many images are open. It is enough for two of the largest windows there
// are, or some 200 decoders of gzip. What is more waits for its turn. Servers
// take turns, and a decoder whose server is dead or slow yields.
const InflateMemory = 260 << 20

// budgets are what decoders share. There are two, because decoders of members may
// have to wait for those of archives that are compressed as a whole. Those wait
// for the network alone.
type budgets struct {
	members, archives *seekable.Budget
}

// newBudgets takes bytes.
func newBudgets(members, archives int64) budgets {
	return budgets{seekable.NewBudget(members), seekable.NewBudget(archives)}
}
