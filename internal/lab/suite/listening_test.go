package suite

import (
	"go/ast"
	"slices"
	"testing"
)

// A test that subscribes and goes on at once misses what another connection
// publishes before the server has heard of the subscription, and waits for it
// until its limit.
func TestWhatATestListensWithIsInPlace(t *testing.T) {
	t.Parallel()
	folders, files := tests(t)
	for folder, parsed := range folders {
		if folder == "deploy/compose" {
			continue // its tests subscribe to what is forbidden, and wait for the server's word
		}
		for _, file := range parsed {
			for _, call := range subscribing(file) {
				t.Errorf("%s: testserver.Listen and testserver.Answer wait until the server knows of it", files.Position(call.Pos()))
			}
		}
	}
}

// subscribing returns the calls that subscribe to a subject of NATS.
func subscribing(in ast.Node) (calls []*ast.CallExpr) {
	ast.Inspect(in, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		switch method.Sel.Name {
		case "SubscribeSync", "ChanSubscribe", "QueueSubscribe", "QueueSubscribeSync", "ChanQueueSubscribe":
			calls = append(calls, call)
		case "Subscribe": // Redis and sessions have a method of that name, too
			if slices.ContainsFunc(call.Args, func(a ast.Expr) bool { _, handler := a.(*ast.FuncLit); return handler }) {
				calls = append(calls, call)
			}
		}
		return true
	})
	return calls
}
