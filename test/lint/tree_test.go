package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// module is the import path of the repository's root.
const module = "github.com/whispering-woods/ww"

// goFile is one parsed Go file of the repository.
type goFile struct {
	path      string // from the root, with slashes
	test      bool
	generated bool
	syntax    *ast.File
}

// goPackage is one directory with Go files.
type goPackage struct {
	path  string // from the root, with slashes
	files []*goFile
}

// tree is what the rules look at.
type tree struct {
	root     string
	set      *token.FileSet
	packages []*goPackage
	texts    []string // every other committed-looking file, from the root

	fileBytesMax   int64 // what nothingLarge allows
	stateFieldsMax int   // what roomBounds allows
	roomMethodsMax int   // the same
}

// load parses the repository, or a part of it, below a directory. It reads the
// working tree and not git, so that it also works on an unpacked archive.
func load(t *testing.T, directory string) *tree {
	t.Helper()
	root, err := filepath.Abs(directory)
	require.NoError(t, err)
	out := &tree{root: root, set: token.NewFileSet(), fileBytesMax: 1 << 20,
		stateFieldsMax: 20, roomMethodsMax: 45}
	byDirectory := map[string]*goPackage{}
	err = filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		relative = filepath.ToSlash(relative)
		if entry.IsDir() {
			if ignoredDirectory(relative) || entry.Name() == "testdata" {
				return filepath.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() || ignoredFile(relative) {
			return nil
		}
		if path.Ext(relative) != ".go" {
			out.texts = append(out.texts, relative)
			return nil
		}
		syntax, err := parser.ParseFile(out.set, name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		directory := path.Dir(relative)
		if byDirectory[directory] == nil {
			byDirectory[directory] = &goPackage{path: directory}
		}
		byDirectory[directory].files = append(byDirectory[directory].files, &goFile{
			path: relative, test: strings.HasSuffix(relative, "_test.go"),
			generated: ast.IsGenerated(syntax), syntax: syntax,
		})
		return nil
	})
	require.NoError(t, err)
	for _, pkg := range byDirectory {
		out.packages = append(out.packages, pkg)
	}
	sort.Slice(out.packages, func(i, j int) bool { return out.packages[i].path < out.packages[j].path })
	return out
}

// ignoredDirectory names what .gitignore keeps out of the repository.
func ignoredDirectory(relative string) bool {
	switch relative {
	case ".git", ".tools", "bin", "tmp":
		return true
	}
	return false
}

func ignoredFile(relative string) bool {
	switch path.Ext(relative) {
	case ".test", ".out", ".pprof", ".prof":
		return true
	}
	// In a second work tree of git, .git is a file.
	return relative == ".git" || strings.HasPrefix(path.Base(relative), "coverage.")
}

// at names a position for a failure message.
func (t *tree) at(pos token.Pos) string {
	p := t.set.Position(pos)
	relative, err := filepath.Rel(t.root, p.Filename)
	if err != nil {
		relative = p.Filename
	}
	return filepath.ToSlash(relative) + ":" + strconv.Itoa(p.Line)
}

// line is the number of the line of a position.
func (t *tree) line(pos token.Pos) int { return t.set.Position(pos).Line }

// read returns the text of a file of the repository, "" if it is gone: a test of
// another package may have removed its scratch file.
func (t *tree) read(relative string) string {
	b, err := os.ReadFile(filepath.Join(t.root, filepath.FromSlash(relative)))
	if err != nil {
		return ""
	}
	return string(b)
}

// handWritten visits every file that is written by hand.
func (t *tree) handWritten(visit func(pkg *goPackage, file *goFile)) {
	for _, pkg := range t.packages {
		for _, file := range pkg.files {
			if !file.generated {
				visit(pkg, file)
			}
		}
	}
}
