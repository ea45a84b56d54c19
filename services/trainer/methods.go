package trainer

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/train"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// method is a way of training: what it needs, what its settings are by default, and what it adds to the classifier with
// cross-entropy, which all of them are. There is one in each file method_*.go.
type method struct {
	name   string
	source string // paper
	set    bool   // trains with a set; the others train without
	beta   float64
	head   bool // trains a head that can decide

	phi      bool // has φ, so that settings.Hidden counts
	singular bool // has the singular-value term
	labelled bool // pictures of the set are of their class: they are trained on as ID pictures are, with weight β

	// loss is what the outliers teach; nil where there are none.
	loss func(s Settings) train.OutlierLoss
	// fits refuses sets that are not what the method is about; nil takes all.
	fits func(*generatorv1.Set) error
}

// Names of the methods that are chosen where none is asked for.
const (
	vanilla  = "vanilla"
	dreamOOD = "dream-ood"
)

// methods are all of them, in the order of documentation.
var methods = []method{
	methodVanilla(), methodDreamOOD(), methodOE(), methodExtraClass(), methodVOS(), methodNPOS(), methodRandomPrompt(), methodFever(), methodDreamID(),
}

// methodNamed is a method by its name; "" is dream-ood with a set, vanilla without.
func methodNamed(name, set string) (method, error) {
	if name == "" {
		name = vanilla
		if set != "" {
			name = dreamOOD
		}
	}
	at := slices.IndexFunc(methods, func(m method) bool { return m.name == name })
	if at < 0 {
		var names []string
		for _, m := range methods {
			names = append(names, m.name)
		}
		return method{}, fmt.Errorf("%q; want one of %s", name, strings.Join(names, ", "))
	}
	return methods[at], nil
}

// check says what a request for a method lacks, or has too much.
func (m method) check(c *fault.Checks, s Settings, set string) {
	c.That(!m.set || set != "", "set", "is empty; %s learns from a set of pictures: name one, or take --method vanilla", m.name)
	c.That(m.set || set == "", "set", "%q; %s trains without a set: leave it away, or take another method, such as dream-ood", set, m.name)
	c.That(s.Hidden == 0 || m.phi, "training.hidden", "%d; %s has no φ", s.Hidden, m.name)
	c.That(s.Hidden >= 0 && s.Hidden <= 4096, "training.hidden", "%d; want 0 to 4096", s.Hidden)
	given := s.SingularWeight != 0 || s.ConditionNumber
	c.That(!given || m.singular, "training.singular_weight", "is given; %s has no singular-value term, fever has", m.name)
	c.That(!m.singular || s.SingularWeight > 0 && s.SingularWeight <= 100, "training.singular_weight", "%g; want above 0, at most 100", s.SingularWeight)
}

// classifier is the head that a method trains.
func (m method) classifier(classes int, s Settings) train.Classifier {
	head := train.Classifier{N: classes, Scale: featureScale}
	if m.loss != nil {
		head.Outliers = m.loss(s)
	}
	if m.singular {
		head.Singular = &train.Singular{Weight: s.SingularWeight, Condition: s.ConditionNumber}
	}
	return head
}

// energyLoss is the loss of Dream-OOD, with the settings' φ.
func energyLoss(s Settings) train.OutlierLoss { return train.Energy{Beta: s.Beta, Hidden: s.Hidden} }
