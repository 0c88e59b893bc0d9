// Package lint holds the project's rules that a machine can check, as tests:
// the direction of imports and the order of layers, package docs, names that
// hide no builtin and say what they are, line length, no hidden global state, no
// sleeping in tests, fuzz targets with a committed corpus, links that resolve,
// nothing of one developer's machine in the tree. Each failure says which rule
// broke and why the rule exists.
//
// The package has no code besides its tests, and owns no state.
package lint
