package report

import "fmt"

// galleryOpen is the number of outliers of a class that are seen without unfolding the rest: full
// rows of seven on a wide screen and of four on a narrow one.
const galleryOpen = 28

// galleryClass is one class of the gallery.
type galleryClass struct {
	Name, Word     string
	Key            string
	Inliers, Words []shown
	Outliers, More []shown
	// Distance and Cosine describe all outliers of the class.
	Distance, Cosine string
}

// pair is a class's nearest real picture above its first outlier, for the head of the page.
type pair struct {
	Name          string
	Real, Outlier shown
}

// newGallery prepares the pictures of all classes.
func newGallery(classes []Class) []galleryClass {
	var out []galleryClass
	for i, c := range classes {
		if len(c.Inliers)+len(c.Words)+len(c.Outliers) == 0 {
			continue
		}
		g := galleryClass{Name: c.Name, Word: c.Word, Key: classKey(i, len(classes))}
		if g.Word == "" {
			g.Word = c.Name
		}
		for j, data := range c.Inliers {
			g.Inliers = append(g.Inliers, show(data, fmt.Sprintf("real %s %d", c.Name, j+1), "real picture of "+c.Name))
		}
		for j, data := range c.Words {
			g.Words = append(g.Words, show(data, fmt.Sprintf("the word %s, drawn, %d", g.Word, j+1),
				"drawn from the word “"+g.Word+"”"))
		}
		var distances, cosines []float64
		for _, o := range c.Outliers {
			g.Outliers = append(g.Outliers, outlierPicture(c.Name, o))
			distances, cosines = append(distances, o.KthDistance), append(cosines, o.AnchorCosine)
		}
		if len(g.Outliers) > galleryOpen {
			g.Outliers, g.More = g.Outliers[:galleryOpen], g.Outliers[galleryOpen:]
		}
		g.Distance, g.Cosine = interval(distances, 2), interval(cosines, 2)
		out = append(out, g)
	}
	return out
}

// outlierPicture prepares an outlier with its numbers as the tooltip.
func outlierPicture(class string, o Picture) shown {
	return show(o.PNG, fmt.Sprintf("outlier %d of %s", o.Index, class),
		fmt.Sprintf("outlier %d of %s\nk-th-neighbour distance %s\ncosine to the anchor %s",
			o.Index, class, decimal(o.KthDistance, 3), decimal(o.AnchorCosine, 3)))
}

// newPairs picks the head of the page from the gallery: at most n classes that have both kinds of picture.
func newPairs(gallery []galleryClass, n int) []pair {
	var out []pair
	for _, g := range gallery {
		if len(out) < n && len(g.Inliers) > 0 && len(g.Outliers) > 0 &&
			g.Inliers[0].Source != "" && g.Outliers[0].Source != "" {
			out = append(out, pair{Name: g.Name, Real: g.Inliers[0], Outlier: g.Outliers[0]})
		}
	}
	return out
}
