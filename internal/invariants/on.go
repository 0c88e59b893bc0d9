//go:build race || invariants

package invariants

// Enabled reports whether costly assertions and buffer poisoning are compiled in.
const Enabled = true
