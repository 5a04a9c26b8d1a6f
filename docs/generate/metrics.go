package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// documented is a metric as the program's source has it.
type documented struct {
	name, kind, help string
	labels           []string
}

// metricName is what the gateway's own metrics are called.
var metricName = regexp.MustCompile(`^(gateway|ws)_[a-z0-9_]+$`)

// source is a package's files and what its constants hold.
type source struct {
	dir       string // below the module
	synopsis  string
	files     []*ast.File
	constants map[string]string
}

// metricsPage writes docs/metrics.md from the source: what is registered is found
// where a name and a help text stand beside each other in a call, or in the
// options of package prometheus.
func metricsPage(out io.Writer, root string) error {
	sources, err := readSources(root)
	if err != nil {
		return err
	}
	fmt.Fprint(out, metricsHead)
	for _, s := range sources {
		list := s.metrics(sources)
		if len(list) == 0 {
			continue
		}
		fmt.Fprintf(out, "\n## `%s`\n\n%s\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n", s.dir, wrapped(s.synopsis))
		for _, m := range list {
			labels := "–"
			if len(m.labels) > 0 {
				labels = "`" + strings.Join(m.labels, "`, `") + "`"
			}
			fmt.Fprintf(out, "| `%s` | %s | %s | %s |\n", m.name, m.kind, labels, strings.ReplaceAll(m.help, "|", `\|`))
		}
	}
	return nil
}

const metricsHead = `# Metrics

Every metric of the gateway's own, as the programs register it; ` + "`make docs`" + ` writes this page. A
node serves them on its admin port (` + "`/metrics`" + `), those of the packages that it has: an edge has no
bridge's, and those of PostgreSQL, TLS and the HTTP intake are there where a node has one. All
series of a closed set of labels are there from the start, at 0. Beside them there are Go's
(` + "`go_…`" + `) and the process's (` + "`process_…`" + `). What to look at when: [operations.md](operations.md) and
the dashboards of the chart; what wakes somebody: [runbook.md](runbook.md).
`

// wrapped is text in lines of up to 100 characters, as all pages have it.
func wrapped(text string) string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > 100 {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return strings.Join(append(lines, line), "\n")
}

// readSources parses what the programs are made of, without tests.
func readSources(root string) ([]*source, error) {
	found := map[string]*source{}
	files := token.NewFileSet()
	for _, below := range []string{"cmd", "internal", "pkg"} {
		err := filepath.WalkDir(filepath.Join(root, below), func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			dir, err := filepath.Rel(root, filepath.Dir(name))
			if err != nil {
				return err
			}
			dir = filepath.ToSlash(dir)
			if strings.HasPrefix(dir+"/", "internal/lab/") {
				return nil
			}
			file, err := parser.ParseFile(files, name, nil, parser.ParseComments)
			if err != nil {
				return err
			}
			if found[dir] == nil {
				found[dir] = &source{dir: dir, constants: map[string]string{}}
			}
			found[dir].add(file)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	var list []*source
	for _, s := range found {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *source) int { return cmp.Compare(a.dir, b.dir) })
	return list, nil
}

func (s *source) add(file *ast.File) {
	s.files = append(s.files, file)
	if file.Doc != nil {
		first, _, _ := strings.Cut(strings.Join(strings.Fields(file.Doc.Text()), " "), ". ")
		s.synopsis = strings.TrimSuffix(first, ".") + "."
	}
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for i, name := range spec.Names {
			if i < len(spec.Values) {
				if literal, ok := spec.Values[i].(*ast.BasicLit); ok {
					s.constants[name.Name] = unquoted(literal)
				}
			}
		}
		return true
	})
}

func unquoted(literal *ast.BasicLit) string {
	if text, err := strconv.Unquote(literal.Value); err == nil && literal.Kind == token.STRING {
		return text
	}
	return literal.Value
}

// metrics are those of a package, sorted by name.
func (s *source) metrics(all []*source) []documented {
	var list []documented
	note := func(m documented) {
		if i := slices.IndexFunc(list, func(o documented) bool { return o.name == m.name }); i >= 0 {
			return // the same with other values of its labels
		}
		list = append(list, m)
	}
	for _, file := range s.files {
		made := makers(file)
		ast.Inspect(file, func(node ast.Node) bool {
			switch n := node.(type) {
			case *ast.CallExpr:
				if m, ok := s.called(n, made, all); ok {
					note(m)
				}
			case *ast.CompositeLit:
				if m, ok := s.options(n, all); ok {
					note(m)
				}
			}
			return true
		})
	}
	slices.SortFunc(list, func(a, b documented) int { return cmp.Compare(a.name, b.name) })
	return list
}

// maker is how metrics are made: by a function of package metric, or by one of the
// package's own around it.
type maker struct {
	kind   string
	labels []string
}

// makers finds functions in a file that make metrics of a name that they are given.
func makers(file *ast.File) map[string]maker {
	found := map[string]maker{}
	ast.Inspect(file, func(node ast.Node) bool {
		assign, ok := node.(*ast.AssignStmt)
		if !ok || len(assign.Lhs) != 1 || len(assign.Rhs) != 1 {
			return true
		}
		name, isName := assign.Lhs[0].(*ast.Ident)
		function, isFunction := assign.Rhs[0].(*ast.FuncLit)
		if !isName || !isFunction {
			return true
		}
		ast.Inspect(function.Body, func(inner ast.Node) bool {
			if call, ok := inner.(*ast.CallExpr); ok {
				if kind := kindOf(call.Fun); kind != "" {
					found[name.Name] = maker{kind, texts(call.Args)}
				}
			}
			return true
		})
		return true
	})
	return found
}

// kindOf is the type of metric that a function of package metric makes.
func kindOf(function ast.Expr) string {
	if index, ok := function.(*ast.IndexExpr); ok {
		function = index.X
	}
	selector, ok := function.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if from, ok := selector.X.(*ast.Ident); !ok || from.Name != "metric" && from.Name != "prometheus" {
		return ""
	}
	for prefix, kind := range map[string]string{"Counter": "counter", "By": "counter", "Gauge": "gauge", "Histogram": "histogram"} {
		if strings.HasPrefix(selector.Sel.Name, prefix) {
			return kind
		}
	}
	return ""
}

// texts are the literal strings among arguments.
func texts(args []ast.Expr) (list []string) {
	for _, arg := range args {
		if literal, ok := arg.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			list = append(list, unquoted(literal))
		}
	}
	return list
}

// called reads a call that has a metric's name and, right after it, its help.
func (s *source) called(call *ast.CallExpr, made map[string]maker, all []*source) (documented, bool) {
	for i, arg := range call.Args {
		literal, ok := arg.(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING || i+1 == len(call.Args) || !metricName.MatchString(unquoted(literal)) {
			continue
		}
		help, ok := s.text(call.Args[i+1], all)
		if !ok {
			continue
		}
		m := documented{name: unquoted(literal), help: help, kind: kindOf(call.Fun), labels: append(texts(call.Args[i+2:]), keys(call.Args[i+2:])...)}
		if function, ok := call.Fun.(*ast.Ident); ok && m.kind == "" {
			m.kind, m.labels = made[function.Name].kind, append(m.labels, made[function.Name].labels...)
		}
		if by := kindOf(call.Fun); by == "counter" && strings.HasSuffix(nameOf(call.Fun), "By") && len(m.labels) > 1 {
			m.labels = m.labels[:1] // then come its values
		}
		return m, m.kind != ""
	}
	return documented{}, false
}

func nameOf(function ast.Expr) string {
	if index, ok := function.(*ast.IndexExpr); ok {
		function = index.X
	}
	if selector, ok := function.(*ast.SelectorExpr); ok {
		return selector.Sel.Name
	}
	return ""
}

// keys are the labels of a map of them among arguments.
func keys(args []ast.Expr) (list []string) {
	for _, arg := range args {
		if literal, ok := arg.(*ast.CompositeLit); ok {
			for _, element := range literal.Elts {
				if pair, ok := element.(*ast.KeyValueExpr); ok {
					list = append(list, texts([]ast.Expr{pair.Key})...)
				}
			}
		}
	}
	return list
}

// options reads prometheus.GaugeOpts and its like.
func (s *source) options(literal *ast.CompositeLit, all []*source) (documented, bool) {
	selector, ok := literal.Type.(*ast.SelectorExpr)
	if !ok || !strings.HasSuffix(selector.Sel.Name, "Opts") {
		return documented{}, false
	}
	m := documented{kind: kindOf(selector)}
	for _, element := range literal.Elts {
		pair, ok := element.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		switch field, _ := pair.Key.(*ast.Ident); field.Name {
		case "Name":
			m.name, _ = s.text(pair.Value, all)
		case "Help":
			m.help, _ = s.text(pair.Value, all)
		case "ConstLabels":
			m.labels = keys([]ast.Expr{pair.Value})
		}
	}
	return m, metricName.MatchString(m.name)
}

// verb is a number or text in a format.
var verb = regexp.MustCompile(`%[dsvg]`)

// text is what a constant expression says: literals, put together, or filled into a
// format.
func (s *source) text(expression ast.Expr, all []*source) (string, bool) {
	switch e := expression.(type) {
	case *ast.BasicLit:
		return unquoted(e), true
	case *ast.Ident:
		value, ok := s.constants[e.Name]
		return value, ok
	case *ast.SelectorExpr:
		from, ok := e.X.(*ast.Ident)
		i := slices.IndexFunc(all, func(o *source) bool { return ok && path.Base(o.dir) == from.Name && o.constants[e.Sel.Name] != "" })
		if i < 0 {
			return "", false
		}
		return all[i].constants[e.Sel.Name], true
	case *ast.BinaryExpr:
		left, leftOK := s.text(e.X, all)
		right, rightOK := s.text(e.Y, all)
		return left + right, leftOK && rightOK
	case *ast.CallExpr:
		if nameOf(e.Fun) != "Sprintf" || len(e.Args) == 0 {
			return "", false
		}
		format, ok := s.text(e.Args[0], all)
		for _, arg := range e.Args[1:] {
			value, isKnown := s.text(arg, all)
			ok = ok && isKnown
			if place := verb.FindStringIndex(format); place != nil {
				format = format[:place[0]] + value + format[place[1]:]
			}
		}
		return format, ok
	}
	return "", false
}
