package report

import (
	"fmt"
	"strings"
)

// tile is one headline number: the baseline's and the other detector's, or one figure alone.
type tile struct {
	Name, Before, After string
	// Unit follows the numbers, Better says which way is better, Detail what they are of.
	Unit, Better, Detail string
	Change               cell
}

// summary is the head of the page.
type summary struct {
	Sentence string
	Tiles    []tile
	Pairs    []pair
}

// headline is one number of the summary for each of two detectors.
type headline struct {
	name, detail string
	higher       bool
	from, to     estimate
}

// newSummary says in one sentence, with numbers, what was done and what came out. The last detector is compared with
// the first.
func newSummary(p Page, sets []oodSet, gallery []galleryClass) summary {
	s := summary{Pairs: newPairs(gallery, 10)}
	sentence := made(p)
	if len(p.Detectors) == 0 {
		s.Sentence = strings.TrimSpace(sentence)
		return s
	}
	in := counted(sets)
	over := overSets(in, sets)
	first, last := 0, len(p.Detectors)-1
	heads := []headline{{"ID accuracy", plural(p.Detectors[last].pictures(), "test picture", "test pictures"), true,
		accuracyOf(p.Detectors[first]), accuracyOf(p.Detectors[last])}}
	for _, m := range metrics()[:2] {
		if len(in) > 0 {
			heads = append(heads, headline{m.Name, over, m.Higher,
				meanOf(in, m, p.Detectors, first), meanOf(in, m, p.Detectors, last)})
		}
	}
	for _, h := range heads {
		t := tile{Name: h.name, Before: percent(h.from.Value), After: percent(h.to.Value), Unit: "%", Detail: h.detail}
		if t.Better = "lower is better"; h.higher {
			t.Better = "higher is better"
		}
		if first == last {
			t.Before = ""
		} else {
			t.Change = compare(h.from, h.to, h.higher)
		}
		if t.After == noData {
			t.Unit = ""
		}
		s.Tiles = append(s.Tiles, t)
	}
	if t, ok := madeTile(p); ok {
		s.Tiles = append([]tile{t}, s.Tiles...)
	}
	s.Sentence = strings.TrimSpace(sentence + " " + outcome(p.Detectors, heads, over))
	return s
}

// imagined counts the outliers of the page, by the map where it holds more of them than the gallery.
func imagined(p Page) int {
	var pictures, points int
	for _, c := range p.Classes {
		pictures += len(c.Outliers)
	}
	for _, pt := range p.Map.Points {
		if pt.Outlier {
			points++
		}
	}
	return max(pictures, points, p.Outliers)
}

// made is the half of the sentence on what was made.
func made(p Page) string {
	n := imagined(p)
	if n == 0 || len(p.Classes) == 0 {
		return ""
	}
	from := "real pictures"
	if p.Space.Bank > 0 {
		from = plural(p.Space.Bank, "real picture", "real pictures")
	}
	return fmt.Sprintf("From %s of %s, %s imagined at the border of what the classes look like.",
		from, plural(len(p.Classes), "class", "classes"), plural(n, "outlier was", "outliers were"))
}

// madeTile counts the outliers.
func madeTile(p Page) (tile, bool) {
	n := imagined(p)
	return tile{Name: "Imagined outliers", After: count(n), Detail: "of " + plural(len(p.Classes), "class", "classes")}, n > 0
}

// overSets names what the mean is taken over; nothing when there is no set.
func overSets(in, all []oodSet) string {
	if len(in) == 0 {
		return ""
	}
	if len(in) == 1 {
		return "against " + in[0].name
	}
	if len(in) < len(all) {
		return fmt.Sprintf("mean of %d of %d OOD sets", len(in), len(all))
	}
	return fmt.Sprintf("mean of %d OOD sets", len(in))
}

// outcome is the half of the sentence on what came out, in the same words whichever way it went.
func outcome(detectors []Detector, heads []headline, over string) string {
	var parts []string
	for i, h := range heads {
		var part string
		switch {
		case !finite(h.to.Value):
			continue
		case len(detectors) == 1 || !finite(h.from.Value):
			part = h.name + " is " + percentSign(h.to.Value)
		default:
			part = fmt.Sprintf("%s went from %s to %s", h.name, percentSign(h.from.Value), percentSign(h.to.Value))
		}
		if i == len(heads)-1 && len(heads) > 1 {
			part += " (" + over + ")"
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return ""
	}
	of := "For the detector “" + detectors[0].Name + "”"
	if len(detectors) > 1 {
		of = fmt.Sprintf("From the detector “%s” to “%s”", detectors[0].Name, detectors[len(detectors)-1].Name)
	}
	return of + ", " + strings.Join(parts, ", ") + "."
}
