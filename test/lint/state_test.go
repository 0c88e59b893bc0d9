package lint

import (
	"go/ast"
	"go/token"
	"strings"
)

// mayBeGlobal lists package-level variables that the rule below would refuse,
// each with the reason why it is not hidden state.
func mayBeGlobal() map[string]string {
	return map[string]string{
		"cmd/ww.version": "set once by the linker",
	}
}

// noHiddenState: state has an owner that a reader can find, and nothing
// happens because a package was imported. Package-level variables are error
// values, tables and interface checks, and nobody assigns to them.
func noHiddenState(tree *tree, found *findings) {
	exceptions := mayBeGlobal()
	for _, pkg := range tree.packages {
		globals, specs := map[string]bool{}, map[any]bool{}
		for _, file := range pkg.files {
			if file.generated || file.test {
				continue
			}
			for _, d := range file.syntax.Decls {
				switch declaration := d.(type) {
				case *ast.FuncDecl:
					if declaration.Recv == nil && declaration.Name.Name == "init" {
						found.add("%s: init(): start from main, where order and errors are visible",
							tree.at(declaration.Pos()))
					}
				case *ast.GenDecl:
					if declaration.Tok != token.VAR {
						continue
					}
					for _, spec := range declaration.Specs {
						spec := spec.(*ast.ValueSpec)
						specs[spec] = true
						for i, name := range spec.Names {
							if name.Name == "_" || exceptions[pkg.path+"."+name.Name] != "" {
								continue
							}
							globals[name.Name] = true
							var value ast.Expr
							if i < len(spec.Values) {
								value = spec.Values[i]
							}
							if why := suspicious(declaration, spec, value); why != "" {
								found.add("%s: package-level variable %s %s", tree.at(name.Pos()), name.Name, why)
							}
						}
					}
				}
			}
		}
		for _, file := range pkg.files {
			if file.generated {
				continue
			}
			ast.Inspect(file.syntax, func(n ast.Node) bool {
				for _, target := range assigned(n) {
					// The parser resolves names within one file: no object means
					// that the name is declared in another file of the package.
					if globals[target.Name] && (target.Obj == nil || specs[target.Obj.Decl]) {
						found.add("%s: assigns to package-level variable %s", tree.at(target.Pos()), target.Name)
					}
				}
				return true
			})
		}
	}
}

// suspicious says what is wrong with a package-level variable, or "".
func suspicious(d *ast.GenDecl, spec *ast.ValueSpec, value ast.Expr) string {
	if spec.Type != nil {
		if name := typeName(spec.Type); stateful(name) {
			return "is of type " + name + ": shared state needs an owner"
		}
	}
	switch initial := value.(type) {
	case nil:
		if embedded(d, spec) {
			return ""
		}
		return "has no value: it is there to be assigned"
	case *ast.BasicLit:
		return "should be a constant"
	case *ast.UnaryExpr:
		if lit, ok := initial.X.(*ast.CompositeLit); ok && initial.Op == token.AND {
			if strings.HasSuffix(typeName(lit.Type), "Error") {
				return ""
			}
			return "is a pointer: shared state needs an owner"
		}
	case *ast.CompositeLit:
		if name := typeName(initial.Type); stateful(name) {
			return "is of type " + name + ": shared state needs an owner"
		}
	case *ast.CallExpr:
		switch name := typeName(initial.Fun); {
		case name == "make" || name == "new":
			return "is made empty: it is there to be filled"
		case stateful(name):
			return "is made by " + name + ": shared state needs an owner"
		}
	}
	return ""
}

// stateful names types (and makers of types) that exist to be changed.
func stateful(name string) bool {
	for _, prefix := range []string{
		"sync.", "atomic.", "slog.", "log.", "rand.", "time.New", "time.Now", "chan ", "bytebufferpool.", "context.",
		"http.", "flag.",
	} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return typeName(e.X) + "." + e.Sel.Name
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.IndexExpr:
		return typeName(e.X)
	case *ast.ChanType:
		return "chan "
	}
	return ""
}

func embedded(d *ast.GenDecl, spec *ast.ValueSpec) bool {
	for _, group := range []*ast.CommentGroup{d.Doc, spec.Doc} {
		if group == nil {
			continue
		}
		for _, c := range group.List {
			if strings.HasPrefix(c.Text, "//go:embed") {
				return true
			}
		}
	}
	return false
}

// assigned lists the plain names that a statement changes.
func assigned(n ast.Node) []*ast.Ident {
	var targets []ast.Expr
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			targets = n.Lhs
		}
	case *ast.IncDecStmt:
		targets = []ast.Expr{n.X}
	}
	var out []*ast.Ident
	for _, target := range targets {
		switch part := target.(type) {
		case *ast.IndexExpr:
			target = part.X
		case *ast.SelectorExpr:
			target = part.X
		}
		if name, ok := target.(*ast.Ident); ok {
			out = append(out, name)
		}
	}
	return out
}

// noSleepInTests: a test that sleeps is slow on a fast machine and fails on
// a slow one. Wait for the condition, with a deadline.
func noSleepInTests(tree *tree, found *findings) {
	tree.handWritten(func(p *goPackage, file *goFile) {
		if !file.test && !within(p.path, "test") && !within(p.path, "bench/cluster") {
			return
		}
		deadlines := map[ast.Stmt]bool{}
		ast.Inspect(file.syntax, func(node ast.Node) bool {
			if pkg, name, ok := selector(node); ok && pkg == "time" && name == "Sleep" {
				found.add("%s: time.Sleep in a test: wait for the condition instead, with a deadline",
					tree.at(node.Pos()))
			}
			if clause, ok := node.(*ast.CommClause); ok {
				deadlines[clause.Comm] = true // case <-time.After(…): a deadline, not a sleep
			}
			statement, ok := node.(*ast.ExprStmt)
			if !ok || deadlines[statement] {
				return true
			}
			receive, ok := statement.X.(*ast.UnaryExpr)
			if !ok || receive.Op != token.ARROW {
				return true
			}
			if call, ok := receive.X.(*ast.CallExpr); ok {
				if pkg, name, ok := selector(call.Fun); ok && pkg == "time" && name == "After" {
					found.add("%s: <-time.After in a test is a sleep: wait for the condition instead, with a deadline",
						tree.at(node.Pos()))
				}
			}
			return true
		})
	})
}
