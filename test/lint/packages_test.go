package lint

import (
	"crypto/sha256"
	"fmt"
	"go/ast"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// packageDocs: each package says what it provides, what it owns and what it
// does not do, in one place.
func packageDocs(tree *tree, found *findings) {
	for _, pkg := range tree.packages {
		var name string
		var docs []string
		onlyTests := true
		for _, file := range pkg.files {
			if file.test {
				continue
			}
			onlyTests, name = false, file.syntax.Name.Name
			if file.syntax.Doc != nil && !file.generated {
				docs = append(docs, file.path)
				text := file.syntax.Doc.Text()
				if !strings.HasPrefix(text, "Package "+name+" ") &&
					!(name == "main" && strings.HasPrefix(text, "Command ")) {
					found.add(
						"%s: the package comment begins with %q, want \"Package %s …\" "+
							"(or \"Command …\" for a program)", file.path, firstLine(text), name)
				}
			}
		}
		switch {
		case onlyTests:
			found.add("%s: only tests: add a doc.go that says what they hold", pkg.path)
		case len(docs) == 0:
			found.add("%s: package %s has no package comment", pkg.path, name)
		case len(docs) > 1:
			found.add("%s: package %s has %d package comments (%s): keep one", pkg.path, name, len(docs),
				strings.Join(docs, ", "))
		}
	}
}

func firstLine(s string) string { first, _, _ := strings.Cut(s, "\n"); return first }

// packageNames: a package is named by what it gives.
func packageNames(tree *tree, found *findings) {
	empty := map[string]bool{
		"util": true, "utils": true, "common": true, "helper": true, "helpers": true, "misc": true,
		"types": true, "base": true, "shared": true, "lib": true, "tools": true, "stuff": true,
	}
	for _, pkg := range tree.packages {
		if empty[path.Base(pkg.path)] {
			found.add("%s: the name says nothing about what the package gives", pkg.path)
		}
		for _, file := range pkg.files {
			if name := strings.TrimSuffix(file.syntax.Name.Name, "_test"); empty[name] {
				found.add("%s: package name %q says nothing about what the package gives", file.path, name)
			}
		}
	}
}

// topLevel: a new entry at the root is a decision.
func topLevel(tree *tree, found *findings) {
	allowed := map[string]bool{
		".ci": true, ".git": true, ".gitignore": true, ".golangci.yml": true, ".tools": true,
		"CHANGELOG.md": true, "LICENSE": true, "Makefile": true, "README.md": true, "go.mod": true,
		"go.sum": true, "tuning.md": true,
		"actor": true, "bench": true, "bin": true, "client": true, "cmd": true, "control": true,
		"daemon": true, "dataplane": true,
		"deploy": true, "disk": true, "docs": true, "internal": true, "test": true, "tmp": true,
	}
	entries, err := os.ReadDir(tree.root)
	if err != nil {
		found.add("%v", err)
	}
	for _, e := range entries {
		if !allowed[e.Name()] && !ignoredFile(e.Name()) {
			found.add("%s: new entry at the root of the repository: put it below an existing one, or list it here",
				e.Name())
		}
	}
}

// fuzzCorpus: every fuzz target has a committed corpus, so that plain
// `go test` runs the inputs that once mattered.
func fuzzCorpus(tree *tree, found *findings) {
	tree.handWritten(func(pkg *goPackage, file *goFile) {
		for _, d := range file.syntax.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || !file.test || !strings.HasPrefix(fn.Name.Name, "Fuzz") {
				continue
			}
			directory := filepath.Join(tree.root, filepath.FromSlash(pkg.path), "testdata", "fuzz", fn.Name.Name)
			if entries, _ := os.ReadDir(directory); len(entries) == 0 {
				found.add("%s: %s has no corpus in testdata/fuzz/%s", tree.at(fn.Pos()), fn.Name.Name, fn.Name.Name)
			}
		}
	})
}

// goroutinesAreWatched: a package that starts goroutines proves with goleak
// that it also ends them.
func goroutinesAreWatched(tree *tree, found *findings) {
	for _, pkg := range tree.packages {
		var started string
		watched := false
		for _, file := range pkg.files {
			for _, spec := range file.syntax.Imports {
				watched = watched || file.test && spec.Path.Value == `"go.uber.org/goleak"`
			}
			if file.test || file.generated || file.syntax.Name.Name == "main" {
				continue
			}
			ast.Inspect(file.syntax, func(n ast.Node) bool {
				if _, ok := n.(*ast.GoStmt); ok && started == "" {
					started = file.path
				}
				return true
			})
		}
		if started != "" && !watched && !within(pkg.path, "test/e2e") {
			found.add("%s: starts goroutines (%s), but no test of the package uses goleak", pkg.path, started)
		}
	}
}

// generatedCode: the .proto files and the code made from them are those of
// one `make generate`, which writes their checksums. It needs no tools;
// `make generate-check` makes the code again.
func generatedCode(tree *tree, found *findings) {
	listed := map[string]bool{}
	for line := range strings.Lines(tree.read("control/generated.sum")) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		listed["control/"+name] = true
		got := fmt.Sprintf("%x", sha256.Sum256([]byte(tree.read("control/"+name))))
		if got != sum {
			found.add("control/%s changed since the last make generate: run it, and commit what it writes", name)
		}
	}
	for _, name := range tree.texts {
		if path.Ext(name) == ".proto" && !listed[name] {
			found.add("%s is not in control/generated.sum: run make generate", name)
		}
	}
	for _, pkg := range tree.packages {
		for _, file := range pkg.files {
			if strings.HasSuffix(file.path, ".pb.go") && !listed[file.path] {
				found.add("%s is not in control/generated.sum: run make generate", file.path)
			}
		}
	}
}
