//go:build ignore

// House measures the structure of the code and compares it with its limits:
//
//	go run .ci/house.go [-check lines,methods,comments,arrows] [-v]
//
// It fails if a limit is passed that -check names; with -v it names what it counted.
// Lines are those of the Go files that the program is built from; those of test
// files are not counted, nor those of rooms that only tests import, which are
// printed beside. An arrow runs from a file
// to another that declares something it uses. The arrows between the files of a
// room that run back up are those that are left when the files are laid in the
// order that leaves the fewest.
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// The limits.
const (
	maxLines    = 46000
	maxMethods  = 30
	maxComment  = 80
	maxBack     = 25
	arrowsBelow = "fs/catalog" // back arrows are counted in this room and those below it
)

func main() {
	os.Exit(run())
}

func run() int {
	check := flag.String("check", "", "fail if one of these limits is passed: lines, methods, comments, arrows")
	verbose := flag.Bool("v", false, "name what was counted")
	flag.Parse()
	h, err := measure()
	if err != nil {
		fmt.Fprintln(os.Stderr, "house:", err)
		return 2
	}
	for _, limit := range h.print(*verbose) {
		if slices.Contains(strings.Split(*check, ","), limit) {
			return 1
		}
	}
	return 0
}

// room is a package of ours as `go list` tells it.
type room struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
	Module                  *struct{ Path, Dir string }
	name                    string // its path in the module
}

// house is what was measured.
type house struct {
	lines    map[string]int      // by room
	shipped  int                 // lines of the rooms that the program is built from
	methods  map[string]int      // by room.Type
	comments map[string]int      // lines of package comments, by room
	arrows   int                 // between files of the rooms at arrowsBelow
	back     map[string][]string // "file -> file", by room
}

func measure() (*house, error) {
	rooms, exports, err := list()
	if err != nil {
		return nil, err
	}
	h := &house{lines: map[string]int{}, methods: map[string]int{}, comments: map[string]int{}, back: map[string][]string{}}
	fset := token.NewFileSet()
	imports := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("no export data of %s", path)
		}
		return os.Open(exports[path])
	})
	program, err := exec.Command("go", "list", "-deps", "./cmd/vmcastfs").Output()
	if err != nil {
		return nil, err
	}
	parts := strings.Fields(string(program))
	for _, r := range rooms {
		var files []*ast.File
		for _, name := range r.GoFiles {
			f, err := parser.ParseFile(fset, filepath.Join(r.Dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			files = append(files, f)
			n := fset.File(f.FileStart).LineCount() - 1
			h.lines[r.name] += n
			if slices.Contains(parts, r.ImportPath) {
				h.shipped += n
			}
			if f.Doc != nil {
				n := fset.Position(f.Doc.End()).Line - fset.Position(f.Doc.Pos()).Line + 1
				h.comments[r.name] = max(h.comments[r.name], n)
			}
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv != nil {
					h.methods[r.name+"."+receiver(fn.Recv.List[0].Type)]++
				}
			}
		}
		if r.name != arrowsBelow && !strings.HasPrefix(r.name, arrowsBelow+"/") {
			continue
		}
		info := &types.Info{Uses: map[*ast.Ident]types.Object{}, Selections: map[*ast.SelectorExpr]*types.Selection{}}
		pkg, err := (&types.Config{Importer: imports}).Check(r.ImportPath, fset, files, info)
		if err != nil {
			return nil, err
		}
		arrows := map[[2]string]bool{}
		for id, obj := range info.Uses {
			if obj.Pkg() != pkg {
				continue
			}
			from, to := fset.Position(id.Pos()).Filename, fset.Position(obj.Pos()).Filename
			if from != to {
				arrows[[2]string{filepath.Base(from), filepath.Base(to)}] = true
			}
		}
		h.arrows += len(arrows)
		h.back[r.name] = backArrows(arrows)
	}
	return h, nil
}

// list asks the go command for our rooms, and for the export data of all they import.
func list() (rooms []room, exports map[string]string, err error) {
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,Module", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, nil, err
	}
	exports = map[string]string{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var r room
		if err := dec.Decode(&r); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, nil, err
		}
		exports[r.ImportPath] = r.Export
		if r.Module == nil {
			continue
		}
		name, ours := strings.CutPrefix(r.ImportPath, r.Module.Path+"/")
		if ours && !strings.Contains(r.Module.Path, ".") {
			r.name = name
			rooms = append(rooms, r)
		}
	}
	return rooms, exports, nil
}

// receiver is the name of a method's type.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return "?"
}

// backArrows lays the files in an order from top to bottom that leaves few
// arrows which run up, and returns those. It starts from the files by how much
// more they use than they are used, and moves one file at a time as long as
// that makes the order better.
func backArrows(arrows map[[2]string]bool) []string {
	balance := map[string]int{}
	for a := range arrows {
		balance[a[0]]++
		balance[a[1]]--
	}
	order := slices.Sorted(maps.Keys(balance))
	slices.SortStableFunc(order, func(a, b string) int { return cmp.Compare(balance[b], balance[a]) })
	for better := true; better; {
		better = false
		for _, file := range slices.Clone(order) {
			at := slices.Index(order, file)
			rest := slices.Delete(slices.Clone(order), at, at+1)
			costs := upward(arrows, rest, file)
			best := slices.Index(costs, slices.Min(costs))
			if costs[best] < costs[at] {
				order = slices.Insert(rest, best, file)
				better = true
			}
		}
	}
	var back []string
	for a := range arrows {
		if slices.Index(order, a[1]) < slices.Index(order, a[0]) {
			back = append(back, a[0]+" -> "+a[1])
		}
	}
	slices.Sort(back)
	return back
}

// upward counts, for each place of file among the others, its arrows that run up.
func upward(arrows map[[2]string]bool, others []string, file string) []int {
	one := func(from, to string) int {
		if arrows[[2]string{from, to}] {
			return 1
		}
		return 0
	}
	costs := make([]int, len(others)+1)
	for _, other := range others {
		costs[0] += one(other, file) // file stands above all of them
	}
	for i, other := range others {
		costs[i+1] = costs[i] - one(other, file) + one(file, other)
	}
	return costs
}

// print writes the figures beside their limits and names the limits that are passed.
func (h *house) print(verbose bool) (over []string) {
	row := func(name, what string, figure, limit int, detail string) {
		verdict := "ok"
		if figure > limit {
			verdict, over = "TOO MANY", append(over, name)
		}
		fmt.Printf("%-50s %6d  of at most %6d  %-8s  %s\n", what, figure, limit, verdict, detail)
	}
	total, back := 0, 0
	for _, n := range h.lines {
		total += n
	}
	for _, list := range h.back {
		back += len(list)
	}
	row("lines", "lines of Go in the program", h.shipped, maxLines, fmt.Sprintf("%d more are in rooms that only tests import", total-h.shipped))
	name, n := most(h.methods)
	row("methods", "methods of the largest type", n, maxMethods, name)
	name, n = most(h.comments)
	row("comments", "lines of the longest package comment", n, maxComment, name)
	row("arrows", "arrows that run back up in "+arrowsBelow+" and below", back, maxBack, fmt.Sprintf("of %d arrows", h.arrows))
	if !verbose {
		return over
	}
	above := func(title string, counts map[string]int, limit int) {
		fmt.Println("\n" + title)
		for _, name := range slices.Sorted(maps.Keys(counts)) {
			if counts[name] > limit {
				fmt.Printf("%8d  %s\n", counts[name], name)
			}
		}
	}
	above("lines of each room", h.lines, 0)
	above("types with too many methods", h.methods, maxMethods)
	above("package comments that are too long", h.comments, maxComment)
	for _, name := range slices.Sorted(maps.Keys(h.back)) {
		fmt.Printf("\narrows that run back up in %s: %d\n  %s\n", name, len(h.back[name]), strings.Join(h.back[name], "\n  "))
	}
	return over
}

// most is the largest of counts, the first by name of several.
func most(counts map[string]int) (name string, n int) {
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		if counts[k] > n {
			name, n = k, counts[k]
		}
	}
	return name, n
}
