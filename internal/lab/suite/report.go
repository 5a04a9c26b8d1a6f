package suite

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Report is what came of a run.
type Report struct {
	out      io.Writer
	verbose  bool
	running  map[string]*pkg
	packages []*pkg // in the order in which they ended
	took     time.Duration
	used     time.Duration // of processors, with all that the tests have started
}

// pkg is a package under test.
type pkg struct {
	name    string
	verdict verdict
	took    time.Duration
	tests   []*test          // in the order in which they began
	byName  map[string]*test // "" is what belongs to no test
}

// test is a test or a part of one.
type test struct {
	name    string
	verdict verdict
	took    time.Duration
	said    bool // its verdict
	output  strings.Builder
	stray   strings.Builder // what came after that, and is whoever's
}

func newReport(out io.Writer, verbose bool) *Report {
	return &Report{out: out, verbose: verbose, running: map[string]*pkg{}}
}

// read takes in all events. A line that is no event (go test says some things
// in plain text) is written as it is.
func (r *Report) read(events io.Reader) error {
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			r.line(line)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *Report) line(line []byte) {
	var e event
	if !bytes.HasPrefix(line, []byte("{")) || json.Unmarshal(line, &e) != nil {
		_, _ = r.out.Write(line)
		return
	}
	switch v, ends := e.ends(); {
	case e.Package == "":
		r.write(e.Output) // of a build
	case e.Action == "run":
		r.test(e)
	case e.Action == "output":
		r.output(e)
	case ends && e.Test == "":
		r.endPackage(e, v)
	case ends:
		r.endTest(e, v)
	}
}

func (r *Report) output(e event) {
	if r.verbose {
		r.write(e.Output)
		return
	}
	// Which test begins, pauses and continues is in every event.
	if !strings.HasPrefix(e.Output, "=== ") {
		r.test(e).say(e.Output)
	}
}

// say adds a line of output. go test takes what comes after a test's verdict for that
// test's, until the next one has something to say: such as the stacks of a process that
// crashes.
func (t *test) say(line string) {
	verdict := strings.TrimLeft(line, " ")
	switch {
	case t.said:
		t.stray.WriteString(line)
	case strings.HasPrefix(verdict, "--- PASS: "+t.name+" "), strings.HasPrefix(verdict, "--- SKIP: "+t.name+" "):
		t.said = true // of no interest
	default:
		t.said = strings.HasPrefix(verdict, "--- FAIL: "+t.name+" ")
		t.output.WriteString(line)
	}
}

func (r *Report) endTest(e event, v verdict) {
	t := r.test(e)
	t.verdict, t.took = v, e.elapsed()
}

func (r *Report) endPackage(e event, v verdict) {
	p := r.pkg(e.Package)
	delete(r.running, e.Package)
	p.verdict, p.took = v, e.elapsed()
	r.packages = append(r.packages, p)
	if !r.verbose { // else all has been said
		if v == failed {
			r.write(p.story())
		}
		r.write(p.closing())
	}
	p.forget()
}

// forget forgets what has been said.
func (p *pkg) forget() {
	for _, t := range p.tests {
		t.output, t.stray = strings.Builder{}, strings.Builder{}
	}
}

// story is the output of the tests that failed or did not end, and whatever no test
// has said that passed. The race detector speaks in whoever's name; where all tests
// passed, nobody knows which of them knows why the package failed.
func (p *pkg) story() string {
	var b strings.Builder
	green := len(p.culprits()) == 0
	for _, t := range p.tests {
		if t.name == "" {
			continue
		}
		if output := t.output.String(); green || !t.passed() || strings.Contains(output, "WARNING: DATA RACE") {
			b.WriteString(output)
		}
		b.WriteString(t.stray.String())
	}
	return b.String()
}

func (t *test) passed() bool { return t.verdict == passed || t.verdict == skipped }

// culprits are the tests that failed or did not end, without their parts.
func (p *pkg) culprits() (tests []*test) {
	for _, t := range p.tests {
		if t.top() && !t.passed() {
			tests = append(tests, t)
		}
	}
	return tests
}

// closing is the package's own output, of which one that passed needs the last
// line alone, and one without tests none.
func (p *pkg) closing() string {
	own, ok := p.byName[""]
	if !ok || p.verdict == skipped {
		return ""
	}
	text := own.output.String()
	if p.verdict == passed {
		before := strings.LastIndexByte(strings.TrimSuffix(text, "\n"), '\n')
		return text[before+1:]
	}
	return text
}

func (r *Report) write(text string) { _, _ = io.WriteString(r.out, text) }

func (r *Report) pkg(name string) *pkg {
	p, ok := r.running[name]
	if !ok {
		p = &pkg{name: name, byName: map[string]*test{}}
		r.running[name] = p
	}
	return p
}

func (r *Report) test(e event) *test {
	p := r.pkg(e.Package)
	t, ok := p.byName[e.Test]
	if !ok {
		t = &test{name: e.Test}
		p.byName[e.Test] = t
		p.tests = append(p.tests, t)
	}
	return t
}

// Passed says whether everything ended, and nothing failed.
func (r *Report) Passed() bool { return len(r.Failures()) == 0 }

// Failures are the tests that failed or did not end, and the packages that did
// so without one.
func (r *Report) Failures() []string {
	var failures []string
	for _, p := range r.all() {
		failures = append(failures, p.failures()...)
	}
	return failures
}

// all are the packages that ended, then those that did not.
func (r *Report) all() []*pkg {
	var unfinished []*pkg
	for _, name := range slices.Sorted(maps.Keys(r.running)) {
		unfinished = append(unfinished, r.running[name])
	}
	return append(slices.Clone(r.packages), unfinished...)
}

func (p *pkg) failures() []string {
	if p.verdict == passed || p.verdict == skipped {
		return nil
	}
	var names []string
	for _, t := range p.culprits() {
		names = append(names, p.short()+" "+t.name)
	}
	if len(names) == 0 {
		return []string{p.short()}
	}
	return names
}

// top tells tests from their parts, and from what belongs to none.
func (t *test) top() bool { return t.name != "" && !strings.Contains(t.name, "/") }

const module = "github.com/neolith/daemon-gateway/"

// short is the package's path within the module.
func (p *pkg) short() string { return strings.TrimPrefix(p.name, module) }
