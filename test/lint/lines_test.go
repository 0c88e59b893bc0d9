package lint

import (
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	lineColumnsMax = 120
	tabColumns     = 4
)

// lineLength: a line that is wider than half a screen is read twice. Go files
// and the prose of documents; what cannot be broken is not counted: a struct
// tag, golden bytes, a link, a row of a table, a block of code in a document.
func lineLength(tree *tree, found *findings) {
	tree.handWritten(func(_ *goPackage, f *goFile) {
		number := 0
		for line := range strings.Lines(tree.read(f.path)) {
			number++
			line = strings.TrimRight(line, "\n")
			if tag := strings.LastIndex(line, " `"); tag >= 0 && strings.HasSuffix(line, "\"`") {
				line = line[:tag]
			}
			if columns(line) > lineColumnsMax && !oneWord(line) {
				found.add("%s:%d: %d columns, more than %d", f.path, number, columns(line), lineColumnsMax)
			}
		}
	})
	for _, name := range tree.texts {
		if path.Ext(name) != ".md" {
			continue
		}
		number, code := 0, false
		for line := range strings.Lines(tree.read(name)) {
			number++
			line = strings.TrimRight(line, "\n")
			if strings.HasPrefix(strings.TrimSpace(line), "```") {
				code = !code
			}
			if code || strings.HasPrefix(strings.TrimSpace(line), "|") ||
				!strings.Contains(strings.TrimSpace(line), " ") {
				continue
			}
			if columns(line) > lineColumnsMax {
				found.add("%s:%d: %d columns, more than %d", name, number, columns(line), lineColumnsMax)
			}
		}
	}
}

// oneWord reports whether a line is wide because of a word that fills most of it.
func oneWord(line string) bool {
	return slices.ContainsFunc(strings.Fields(line), func(word string) bool { return len(word) > lineColumnsMax*3/4 })
}

// columns is the width of a line.
func columns(line string) int {
	return utf8.RuneCountInString(line) + (tabColumns-1)*strings.Count(line, "\t")
}
