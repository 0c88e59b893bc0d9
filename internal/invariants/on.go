//go:build race || invariants

package invariants

// Enabled tells whether costly assertions and buffer poisoning are compiled in.
const Enabled = true
