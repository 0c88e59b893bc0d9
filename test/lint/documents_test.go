package lint

import (
	"go/ast"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// namedSections are the sections of docs/ARCHITECTURE.md that lead a newcomer
// through the code by its names.
func namedSections() []string {
	return []string{"## The way of a put, an append, a get, a repair", "## To add a …"}
}

// documentNames: every name and path of those sections exists. A name is
// package.name or package.Type.member, the package by the end of its path; a test
// is named alone.
func documentNames(tree *tree, found *findings) {
	const document = "docs/ARCHITECTURE.md"
	text := tree.read(document)
	declared, tests := map[string]bool{}, map[string]bool{}
	for _, p := range tree.packages {
		for _, f := range p.files {
			for _, name := range declaredIn(f.syntax) {
				if f.test {
					tests[name] = true
					continue
				}
				for prefix := p.path; prefix != ""; {
					declared[prefix+"."+name] = true
					_, prefix, _ = strings.Cut(prefix, "/")
				}
			}
		}
	}
	quoted := regexp.MustCompile("`([^`\n]+)`")
	name := regexp.MustCompile(`^[a-z][a-z0-9/]*(\.[A-Za-z]\w*){1,2}$`)
	isTest := regexp.MustCompile(`^(Test|Fuzz)\w+$`)
	for _, heading := range namedSections() {
		_, section, ok := strings.Cut(text, "\n"+heading+"\n")
		if !ok {
			found.add("%s has no section %q", document, heading)
			continue
		}
		section, _, _ = strings.Cut(section, "\n## ")
		for _, match := range quoted.FindAllStringSubmatch(section, -1) {
			switch span := match[1]; {
			case strings.ContainsAny(span, " _*="): // a command or a setting
			case isTest.MatchString(span):
				if !tests[span] {
					found.add("%s: there is no test %s", document, span)
				}
			case isFile(span) || strings.HasSuffix(span, "/"):
				if _, err := os.Stat(filepath.Join(tree.root, filepath.FromSlash(span))); err != nil {
					found.add("%s: there is no file %s", document, span)
				}
			case name.MatchString(span):
				if !declared[span] {
					found.add("%s: the code has no %s", document, span)
				}
			}
		}
	}
}

func isFile(name string) bool {
	switch path.Ext(name) {
	case ".go", ".md", ".proto", ".yaml", ".txt", ".sum":
		return true
	}
	return false
}

// declaredIn lists what a file declares: "name", "Type.method" and "Type.field".
func declaredIn(file *ast.File) (names []string) {
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				names = append(names, d.Name.Name)
			} else {
				names = append(names, typeName(d.Recv.List[0].Type)+"."+d.Name.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.ValueSpec:
					for _, ident := range spec.Names {
						names = append(names, ident.Name)
					}
				case *ast.TypeSpec:
					names = append(names, spec.Name.Name)
					if body, ok := spec.Type.(*ast.StructType); ok {
						for _, field := range body.Fields.List {
							for _, ident := range field.Names {
								names = append(names, spec.Name.Name+"."+ident.Name)
							}
						}
					}
				}
			}
		}
	}
	return names
}
