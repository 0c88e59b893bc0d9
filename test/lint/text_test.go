package lint

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// documentLinks: a link in a document, and a document named in a comment,
// lead somewhere.
func documentLinks(tree *tree, found *findings) {
	anchors := map[string]map[string]bool{}
	for _, name := range tree.texts {
		if path.Ext(name) == ".md" {
			anchors[name] = headings(tree.read(name))
		}
	}
	check := func(where, from, link string) {
		target, fragment, _ := strings.Cut(link, "#")
		file := from
		if target != "" {
			file = path.Join(path.Dir(from), target)
		}
		if _, err := os.Stat(filepath.Join(tree.root, filepath.FromSlash(file))); err != nil {
			found.add("%s: link to %s: there is no such file", where, link)
			return
		}
		if fragment != "" && anchors[file] != nil && !anchors[file][fragment] {
			found.add("%s: link to %s: %s has no such heading", where, link, file)
		}
	}
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for name := range anchors {
		for _, m := range link.FindAllStringSubmatch(withoutCode(tree.read(name)), -1) {
			if !strings.Contains(m[1], "://") && !strings.HasPrefix(m[1], "mailto:") {
				check(name, name, m[1])
			}
		}
	}
	mention := regexp.MustCompile(`\b(docs/[\w/.-]+\.md|tuning\.md)(#[\w-]+)?`)
	tree.handWritten(func(_ *goPackage, file *goFile) {
		for _, group := range file.syntax.Comments {
			for _, m := range mention.FindAllString(group.Text(), -1) {
				check(tree.at(group.Pos()), "README.md", m)
			}
		}
	})
}

// withoutCode blanks code blocks and code spans, whose brackets are no links.
func withoutCode(text string) string {
	text = regexp.MustCompile("(?ms)^```.*?^```").ReplaceAllString(text, "")
	return regexp.MustCompile("`[^`\n]*`").ReplaceAllString(text, "")
}

// headings lists the anchors of a document: those of its headings as GitHub
// makes them, and explicit <a id="…">.
func headings(text string) map[string]bool {
	out := map[string]bool{}
	for line := range strings.Lines(regexp.MustCompile("(?ms)^```.*?^```").ReplaceAllString(text, "")) {
		for _, m := range regexp.MustCompile(`<a id="([^"]+)">`).FindAllStringSubmatch(line, -1) {
			out[m[1]] = true
		}
		title := strings.TrimLeft(line, "#")
		if title == line || !strings.HasPrefix(title, " ") {
			continue
		}
		var slug strings.Builder
		for _, r := range strings.ToLower(strings.TrimSpace(title)) {
			switch {
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				slug.WriteRune(r)
			case r == ' ':
				slug.WriteByte('-')
			}
		}
		out[slug.String()] = true
	}
	return out
}

// nothingOfOneMachine: paths of a developer's machine and addresses of a
// package mirror make a tree that works in one place only.
func nothingOfOneMachine(tree *tree, found *findings) {
	patterns := map[string]*regexp.Regexp{
		"a path of one machine": regexp.MustCompile(`(^|[^\w.])/(work|root|Users|home/[a-z]\w*)/\w`),
		"a package registry": regexp.MustCompile(
			`(proxy\.golang\.org|sum\.golang\.org|goproxy\.|GOPROXY=|` +
				`GONOSUMDB|GONOSUMCHECK|GOFLAGS=-insecure|registry\.npmjs)`),
		"a shared scratch file": regexp.MustCompile(`/tmp/(contracts|wwcommit|infra-)`),
	}
	check := func(name string) {
		if within(name, "test/lint") || name == "go.sum" {
			return
		}
		text := tree.read(name)
		if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			return
		}
		number := 0
		for line := range strings.Lines(text) {
			number++
			for what, pattern := range patterns {
				if m := pattern.FindString(line); m != "" {
					found.add("%s:%d: %q is %s", name, number, strings.TrimSpace(m), what)
				}
			}
		}
	}
	for _, name := range tree.texts {
		check(name)
	}
	for _, pkg := range tree.packages {
		for _, file := range pkg.files {
			check(file.path)
		}
	}
}

// nothingLarge: programs, archives and profiles do not belong into the tree.
func nothingLarge(tree *tree, found *findings) {
	for _, name := range tree.texts {
		info, err := os.Stat(filepath.Join(tree.root, filepath.FromSlash(name)))
		if err != nil {
			continue // a test of another package removed its scratch file
		}
		if info.Size() > tree.fileBytesMax {
			found.add("%s: %d bytes, more than %d: too large for the repository", name, info.Size(), tree.fileBytesMax)
		}
	}
}
