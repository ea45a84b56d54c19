package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// noData stands wherever a value is missing or not a number.
const noData = "no data"

// finite reports whether v is a number that can be shown.
func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// percent formats a share with one digit, without the sign: 0.4131 is "41.3".
func percent(v float64) string {
	if !finite(v) {
		return noData
	}
	s := strconv.FormatFloat(100*v, 'f', 1, 64)
	if s == "-0.0" {
		return "0.0"
	}
	return s
}

// percentSign is percent with the sign after a narrow no-break space: "41.3 %".
func percentSign(v float64) string {
	if !finite(v) {
		return noData
	}
	return percent(v) + "\u202f%"
}

// points formats the difference of two shares in percentage points, signed with a real minus: "−7.1".
func points(v float64) string {
	switch s := percent(v); {
	case !finite(v):
		return noData
	case s == "0.0":
		return "0.0"
	case v < 0:
		return "−" + strings.TrimPrefix(s, "-")
	default:
		return "+" + s
	}
}

// halfWidth formats half a confidence interval of a share, "±2.1", or nothing when it is unknown.
func halfWidth(v float64) string {
	if !finite(v) {
		return ""
	}
	return "±" + percent(v)
}

// decimal formats v with n digits and a real minus sign.
func decimal(v float64, n int) string {
	if !finite(v) {
		return noData
	}
	return strings.Replace(strconv.FormatFloat(v, 'f', n, 64), "-", "−", 1)
}

// count formats n with a comma at every third digit: "12,500".
func count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural is "1 picture", "12 pictures".
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + many
}

// visible replaces what neither XML nor a reader can take: invalid UTF-8 and control characters.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n' || r == '\r':
			return ' '
		case r < 0x20, r >= 0x7f && r < 0xa0, r == 0xfffe, r == 0xffff:
			return '\ufffd'
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
}

// short cuts s to n characters, the last one an ellipsis.
func short(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

// coordinate formats a length in SVG user units with at most one digit.
func coordinate(v float64) string {
	s := strconv.FormatFloat(v, 'f', 1, 64)
	s = strings.TrimSuffix(s, ".0")
	if s == "-0" {
		return "0"
	}
	return s
}

// interval describes values as "0.31 to 0.52, median 0.44", or says that there are none.
func interval(values []float64, digits int) string {
	lo, mid, hi := quantile(values, 0), quantile(values, 0.5), quantile(values, 1)
	if !finite(mid) {
		return noData
	}
	return fmt.Sprintf("%s to %s, median %s", decimal(lo, digits), decimal(hi, digits), decimal(mid, digits))
}
