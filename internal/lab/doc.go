// Package lab tries the gateway. A scenario runs it as processes, with daemons
// and publishers around it, does something to it, and judges what they saw of
// it. Each scenario is a package below this one, which says what is special about
// it: a function of a World. cmd/lab runs them; docs/lab.md shows them.
package lab
