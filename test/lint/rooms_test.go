package lint

import (
	"errors"
	"go/ast"
	"go/types"
	"path"
	"slices"
)

// roomBounds: a reader holds one room of the state machine in mind, or the machine
// and its rooms' names, but not all at once. What does not fit wants a room of its
// own, or belongs into one.
func roomBounds(tree *tree, found *findings) {
	for _, p := range tree.packages {
		if !within(p.path, "actor") {
			continue
		}
		methods := map[string]int{}
		for _, f := range p.files {
			if f.test {
				continue
			}
			for _, d := range f.syntax.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv != nil {
					methods[typeName(fn.Recv.List[0].Type)]++
				}
				fields := stateFields(d)
				if p.path == "actor" && fields > tree.stateFieldsMax {
					found.add("%s: State has %d fields, at most %d are allowed: give them a room", tree.at(d.Pos()),
						fields, tree.stateFieldsMax)
				}
			}
		}
		for name, count := range methods {
			if count > tree.roomMethodsMax {
				found.add("%s: %s has %d methods, at most %d are allowed: cut it into rooms", p.path, name, count,
					tree.roomMethodsMax)
			}
		}
	}
}

// stateFields counts the fields of a type State that a declaration makes.
func stateFields(d ast.Decl) int {
	declaration, ok := d.(*ast.GenDecl)
	if !ok {
		return 0
	}
	fields := 0
	for _, spec := range declaration.Specs {
		t, ok := spec.(*ast.TypeSpec)
		if !ok || t.Name.Name != "State" {
			continue
		}
		if s, ok := t.Type.(*ast.StructType); ok {
			fields = s.Fields.NumFields()
		}
	}
	return fields
}

// ownFields lists, for each package whose types are rooms for one another, the
// types whose fields are their own: with the files that may select them.
func ownFields() map[string]map[string][]string {
	return map[string]map[string][]string{
		"actor/namespace": {
			"Tree":  {"tree.go", "load.go", "check.go"},
			"Files": {"files.go", "load.go", "check.go"},
		},
		"actor/leases": {
			"Leases": {"leases.go"}, "Recovery": {"recovery.go"}, "RetryCache": {"retry.go"},
		},
		"actor/replicas": {
			"Nodes": {"nodes.go"}, "node": {"nodes.go"}, "Reports": {"report.go"}, "report": {"report.go"},
			"OpenChunks": {"open.go"}, "Suspects": {"suspects.go"}, "Chooser": {"choose.go"},
			"SafeMode": {"safemode.go"}, "Duties": {"duties.go", "check.go"}, "nodeDuty": {"duties.go", "check.go"},
			"locations": {"locations.go"}, "misplacedTable": {"misplaced.go", "check.go"},
			"repair":   {"repair.go", "repairstatus.go", "blocked.go", "check.go"},
			"deletion": {"deletion.go", "check.go"}, "nodeOrders": {"deletion.go", "check.go"},
			"Balancer": {"balance.go", "balancestatus.go", "check.go"},
		},
	}
}

// fieldsStayInTheirRoom: the fields of a room are selected in its own files only;
// others call its methods.
func fieldsStayInTheirRoom(tree *tree, found *findings) {
	for _, p := range tree.packages {
		rooms := ownFields()[p.path]
		var files []*ast.File
		for _, f := range p.files {
			if !f.test {
				files = append(files, f.syntax)
			}
		}
		if len(rooms) == 0 || len(files) == 0 {
			continue
		}
		// Imports stay unresolved: a selection of a field needs the package's own
		// types only.
		info := &types.Info{Selections: map[*ast.SelectorExpr]*types.Selection{}}
		config := types.Config{Importer: noImporter{}, Error: func(error) {}}
		checked, _ := config.Check(p.path, tree.set, files, info)
		owners := map[types.Object]string{}
		for _, name := range checked.Scope().Names() {
			if s, ok := checked.Scope().Lookup(name).Type().Underlying().(*types.Struct); ok && rooms[name] != nil {
				for i := range s.NumFields() {
					owners[s.Field(i)] = name
				}
			}
		}
		for expression, selection := range info.Selections {
			field, isField := selection.Obj().(*types.Var)
			if !isField {
				continue
			}
			owner := owners[field.Origin()]
			file := path.Base(tree.set.Position(expression.Pos()).Filename)
			if owner != "" && !slices.Contains(rooms[owner], file) {
				found.add("%s: selects the field %s of %s, which is that type's own: call a method",
					tree.at(expression.Pos()), field.Name(), owner)
			}
		}
	}
}

// noImporter knows no package.
type noImporter struct{}

func (noImporter) Import(string) (*types.Package, error) { return nil, errors.New("not needed") }
