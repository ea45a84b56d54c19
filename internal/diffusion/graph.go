package diffusion

import (
	"maps"
	"slices"

	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// graphIndex finds who makes and who reads the values of a graph. It is of one
// state of the graph: rewrites work on what it found and then make a new one.
type graphIndex struct {
	graph  *onnxpb.GraphProto
	makers map[string]*onnxpb.NodeProto
	users  map[string][]*onnxpb.NodeProto
	stored map[string]*onnxpb.TensorProto
	fixed  map[string]bool // outputs of the graph, and what subgraphs may read
}

func indexGraph(g *onnxpb.GraphProto) *graphIndex {
	x := &graphIndex{
		graph: g, makers: map[string]*onnxpb.NodeProto{}, users: map[string][]*onnxpb.NodeProto{},
		stored: map[string]*onnxpb.TensorProto{}, fixed: map[string]bool{},
	}
	for _, t := range g.Initializer {
		x.stored[t.Name] = t
	}
	for _, o := range g.Output {
		x.fixed[o.Name] = true
	}
	for _, n := range g.Node {
		for _, o := range n.Output {
			x.makers[o] = n
		}
		for _, i := range n.Input {
			x.users[i] = append(x.users[i], n)
		}
		for _, a := range n.Attribute {
			for _, sub := range append(slices.Clone(a.Graphs), a.G) {
				readBySubgraph(sub, x.fixed)
			}
		}
	}
	return x
}

// readBySubgraph collects every name that is read anywhere in a subgraph.
func readBySubgraph(g *onnxpb.GraphProto, names map[string]bool) {
	if g == nil {
		return
	}
	for _, o := range g.Output {
		names[o.Name] = true
	}
	for _, n := range g.Node {
		for _, i := range n.Input {
			names[i] = true
		}
		for _, a := range n.Attribute {
			for _, sub := range append(slices.Clone(a.Graphs), a.G) {
				readBySubgraph(sub, names)
			}
		}
	}
}

// only returns the one reader of a value, nil where there are several or where
// the value is needed beyond the graph's own nodes.
func (x *graphIndex) only(value string) *onnxpb.NodeProto {
	if users := x.users[value]; len(users) == 1 && !x.fixed[value] {
		return users[0]
	}
	return nil
}

// isOp says whether a node, which may be nil, is an operator of the default
// domain with so many inputs.
func isOp(n *onnxpb.NodeProto, op string, inputs int) bool {
	return n != nil && n.OpType == op && (n.Domain == "" || n.Domain == "ai.onnx") && len(n.Input) == inputs && len(n.Output) == 1
}

// constant returns the tensor that a value always is, nil where it is not
// known. Identity is looked through.
func (x *graphIndex) constant(value string) *onnxpb.TensorProto {
	for range 8 {
		if t := x.stored[value]; t != nil {
			return t
		}
		n := x.makers[value]
		switch {
		case isOp(n, "Identity", 1):
			value = n.Input[0]
		case isOp(n, "Constant", 0):
			for _, a := range n.Attribute {
				if a.Name == "value" {
					return a.T
				}
			}
			return nil
		default:
			return nil
		}
	}
	return nil
}

// number returns a constant integer of one element.
func (x *graphIndex) number(value string) (int64, bool) {
	v, err := onnxpb.Ints(x.constant(value))
	if err != nil || len(v) != 1 {
		return 0, false
	}
	return v[0], true
}

// removeDead removes nodes whose outputs nobody needs, and stored tensors that
// nobody reads any more.
func removeDead(g *onnxpb.GraphProto) {
	x := indexGraph(g)
	needed := maps.Clone(x.fixed)
	keep := map[*onnxpb.NodeProto]bool{}
	open := slices.Collect(maps.Keys(needed))
	for len(open) > 0 {
		value := open[len(open)-1]
		open = open[:len(open)-1]
		n := x.makers[value]
		if n == nil || keep[n] {
			continue
		}
		keep[n] = true
		for _, i := range n.Input {
			if !needed[i] {
				needed[i] = true
				open = append(open, i)
			}
		}
	}
	g.Node = slices.DeleteFunc(g.Node, func(n *onnxpb.NodeProto) bool { return !keep[n] })
	inputs := map[string]bool{}
	for _, in := range g.Input {
		inputs[in.Name] = true
	}
	g.Initializer = slices.DeleteFunc(g.Initializer, func(t *onnxpb.TensorProto) bool { return !needed[t.Name] && !inputs[t.Name] })
	g.ValueInfo = nil // notes about values, some of which are gone
}
