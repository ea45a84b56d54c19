package onnxpb

import (
	"fmt"
	"slices"
)

// Prune removes from a model everything that none of the given outputs needs: a runtime computes all that a graph
// holds, whatever is asked of it. Graphs inside of nodes are kept with their nodes, and so is what they read outside.
func Prune(m *ModelProto, outputs ...string) error {
	g := m.Graph
	for _, name := range outputs {
		if !slices.ContainsFunc(g.Output, func(v *ValueInfoProto) bool { return v.Name == name }) {
			return fmt.Errorf("the model has no output %q", name)
		}
	}
	needed := map[string]bool{}
	for _, name := range outputs {
		needed[name] = true
	}
	nodes := make([]*NodeProto, 0, len(g.Node))
	for _, n := range slices.Backward(g.Node) { // nodes stand in topological order
		if !slices.ContainsFunc(n.Output, func(out string) bool { return needed[out] }) {
			continue
		}
		nodes = append(nodes, n)
		reads(n, needed)
	}
	slices.Reverse(nodes)
	g.Node = nodes
	g.Initializer = slices.DeleteFunc(g.Initializer, func(t *TensorProto) bool { return !needed[t.Name] })
	g.Output = slices.DeleteFunc(g.Output, func(v *ValueInfoProto) bool { return !slices.Contains(outputs, v.Name) })
	g.ValueInfo = slices.DeleteFunc(g.ValueInfo, func(v *ValueInfoProto) bool { return !needed[v.Name] })
	return nil
}

// reads marks what a node reads, in the graphs that it holds too.
func reads(n *NodeProto, needed map[string]bool) {
	for _, in := range n.Input {
		needed[in] = true
	}
	for _, a := range n.Attribute {
		for _, g := range append(a.Graphs, a.G) {
			for _, out := range g.GetOutput() {
				needed[out.Name] = true
			}
			for _, inner := range g.GetNode() {
				reads(inner, needed)
			}
		}
	}
}
