package report

import (
	"fmt"
	"html/template"
	"math"
	"strings"
)

// classColours are the colours of the first ten classes on light and on dark ground: Okabe and Ito's eight for colour
// vision of every kind, the yellow darkened on light ground and the black inverted on dark, then a violet and a brown.
// The map names every class at its anchor as well, so no reader depends on telling ten colours apart.
func classColours() [][2]string {
	return [][2]string{
		{"#0072b2", "#3d9be0"}, {"#e69f00", "#e69f00"}, {"#009e73", "#12b587"}, {"#cc79a7", "#dd8fba"},
		{"#56b4e9", "#8fd0f5"}, {"#d55e00", "#ee7424"}, {"#a89a00", "#f0e442"}, {"#222222", "#f2f2f2"},
		{"#6a3d9a", "#a98be0"}, {"#8b5a2b", "#c49a6c"},
	}
}

// classColour is the colour of class i on light and on dark ground. Beyond the tenth the hue moves by the golden
// angle, so that neighbours in label order differ.
func classColour(i int) (light, dark string) {
	if first := classColours(); i < len(first) {
		return first[i][0], first[i][1]
	}
	hue := math.Mod(float64(i)*137.508, 360)
	return fmt.Sprintf("hsl(%.0f 70%% 38%%)", hue), fmt.Sprintf("hsl(%.0f 70%% 66%%)", hue)
}

// classStyle gives every class its colour as --k under the CSS class kN, and lets the check boxes of the map hide it.
func classStyle(n int) template.CSS {
	var light, dark, hide strings.Builder
	for i := range n {
		l, d := classColour(i)
		fmt.Fprintf(&light, ".k%d{--k:%s}", i, l)
		fmt.Fprintf(&dark, ".k%d{--k:%s}", i, d)
		fmt.Fprintf(&hide, "#map:has(#show-k%d:not(:checked)) svg .k%d{display:none}", i, i)
	}
	return template.CSS(light.String() + "@media (prefers-color-scheme:dark){" + dark.String() + "}" + hide.String())
}

// classKey is the CSS class of class i of n; "kx" for a number that is no class.
func classKey(i, n int) string {
	if i < 0 || i >= n {
		return "kx"
	}
	return fmt.Sprintf("k%d", i)
}

// detectorKey is the CSS class of detector i; there are four line styles and colours.
func detectorKey(i int) string { return fmt.Sprintf("d%d", i%4) }
