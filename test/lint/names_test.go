package lint

import (
	"go/ast"
	"go/token"
	"go/types"
	"strings"
	"unicode/utf8"
)

// shortNameLines is how many lines a name of one letter may live: its
// declaration and its uses fit into one look.
const shortNameLines = 10

// noShadowedBuiltin: a reader who meets close, len or any may trust that it is
// Go's. Methods and fields are told apart by what stands before the dot.
func noShadowedBuiltin(tree *tree, found *findings) {
	tree.handWritten(func(_ *goPackage, f *goFile) {
		for _, name := range declared(f.syntax) {
			if types.Universe.Lookup(name.ident.Name) != nil {
				found.add("%s: %s hides the builtin of that name", tree.at(name.ident.Pos()), name.ident.Name)
			}
		}
	})
}

// noLongLivedLetter: a name of one letter says nothing after ten lines. Receivers
// aside, whose type stands beside them; indexes i and j of loops; the t, b, f and
// m of tests; b for bytes that an encoder appends to, a parameter or made in place;
// type parameters. In a test a letter may stand for what the test is about.
func noLongLivedLetter(tree *tree, found *findings) {
	tree.handWritten(func(_ *goPackage, f *goFile) {
		if f.test {
			return
		}
		for _, name := range declared(f.syntax) {
			lines := tree.line(name.lastUse) - tree.line(name.ident.Pos())
			if utf8.RuneCountInString(name.ident.Name) == 1 && lines > shortNameLines && !name.mayBeShort() {
				found.add("%s: %s lives for %d lines: a name that is used more than %d lines later says what it is",
					tree.at(name.ident.Pos()), name.ident.Name, lines, shortNameLines)
			}
		}
	})
}

// declaredName is a constant, variable, parameter, function or type that a file
// declares.
type declaredName struct {
	ident   *ast.Ident
	lastUse token.Pos // in this file
	role    string    // "receiver", "type parameter", "loop", "parameter", "made" or ""
	kind    string    // the type of a parameter, as text
}

func (n *declaredName) mayBeShort() bool {
	switch n.role {
	case "receiver", "type parameter":
		return true
	case "loop":
		return n.ident.Name == "i" || n.ident.Name == "j"
	case "parameter", "made":
		return strings.HasPrefix(n.kind, "testing.") || n.ident.Name == "b" && n.kind == "[]byte"
	}
	return false
}

// declared lists what a file declares, but methods and fields, in order.
func declared(file *ast.File) []*declaredName {
	byObject := map[*ast.Object]*declaredName{} //nolint:staticcheck // SA1019: names of one file need no types
	var all []*declaredName
	roles := rolesIn(file)
	ast.Inspect(file, func(n ast.Node) bool {
		ident, ok := n.(*ast.Ident)
		if !ok || ident.Obj == nil || ident.Obj.Kind == ast.Lbl || ident.Obj.Kind == ast.Pkg || ident.Name == "_" {
			return true
		}
		if ident.Obj.Pos() == ident.Pos() && roles[ident].role != "member" && byObject[ident.Obj] == nil {
			name := &declaredName{ident: ident, role: roles[ident].role, kind: roles[ident].kind}
			byObject[ident.Obj] = name
			all = append(all, name)
		}
		if name := byObject[ident.Obj]; name != nil {
			name.lastUse = max(name.lastUse, ident.Pos())
		}
		return true
	})
	return all
}

type role struct{ role, kind string }

// rolesIn finds those names whose place decides what they may be called.
func rolesIn(file *ast.File) map[*ast.Ident]role {
	roles := map[*ast.Ident]role{}
	mark := func(list *ast.FieldList, name string) {
		if list == nil {
			return
		}
		for _, field := range list.List {
			for _, ident := range field.Names {
				roles[ident] = role{name, parameterType(field.Type)}
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			mark(n.Recv, "receiver")
		case *ast.FuncType:
			mark(n.TypeParams, "type parameter")
			mark(n.Params, "parameter")
		case *ast.TypeSpec:
			mark(n.TypeParams, "type parameter")
		case *ast.StructType:
			mark(n.Fields, "member")
		case *ast.InterfaceType:
			mark(n.Methods, "member")
		case *ast.RangeStmt:
			for _, e := range []ast.Expr{n.Key, n.Value} {
				if ident, ok := e.(*ast.Ident); ok && n.Tok == token.DEFINE {
					roles[ident] = role{"loop", ""}
				}
			}
		case *ast.AssignStmt:
			if ident, call, ok := madeInPlace(n); ok {
				roles[ident] = role{"made", parameterType(call.Args[0])}
			}
		case *ast.ForStmt:
			if assign, ok := n.Init.(*ast.AssignStmt); ok && assign.Tok == token.DEFINE {
				for _, e := range assign.Lhs {
					if ident, ok := e.(*ast.Ident); ok {
						roles[ident] = role{"loop", ""}
					}
				}
			}
		}
		return true
	})
	return roles
}

// madeInPlace recognizes name := make(…).
func madeInPlace(n *ast.AssignStmt) (*ast.Ident, *ast.CallExpr, bool) {
	if n.Tok != token.DEFINE || len(n.Lhs) != 1 || len(n.Rhs) != 1 {
		return nil, nil, false
	}
	ident, named := n.Lhs[0].(*ast.Ident)
	call, called := n.Rhs[0].(*ast.CallExpr)
	return ident, call, named && called && len(call.Args) > 0 && typeName(call.Fun) == "make"
}

// parameterType names a type, as far as the rules ask for it.
func parameterType(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return parameterType(e.X)
	case *ast.ArrayType:
		if e.Len == nil {
			return "[]" + parameterType(e.Elt)
		}
	}
	return typeName(e)
}
