package app

import (
	"context"
	"fmt"
	"slices"

	"github.com/dreamood/dreamood/internal/embedmap"
	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/services/sampler"
)

// What a map draws at most: more could not be told apart.
const (
	mapClasses = 10
	mapID      = 900 // ID embeddings, of all classes together
	mapSampled = 450
)

// draw writes the map.
func (o *outputs) draw(ctx context.Context, j Sampling, p *plan, in *inputs, list []drawn) error {
	if o.drawing == nil {
		return nil
	}
	list = list[:min(mapClasses, len(list))]
	rows := matrix.Matrix{Cols: in.dim}
	m := embedmap.Map{ID: "ID embedding", Sampled: "outlier", Title: p.method.Name() + ": outliers beside the ID embeddings"}
	if p.method.Name() == (sampler.Inlier{}).Name() {
		m.Sampled, m.Title = "inlier", p.method.Name()+": inliers among the ID embeddings"
	}
	for i, d := range list {
		m.Classes = append(m.Classes, fmt.Sprintf("class %d", d.class))
		bank, err := in.bank(d.class)
		if err != nil {
			return err
		}
		if bank, err = bank.Normalised(); err != nil {
			return err
		}
		for _, part := range []struct {
			rows    matrix.Matrix
			most    int
			sampled bool
		}{{bank, mapID, false}, {d.kept, mapSampled, true}} {
			n := min(part.rows.Rows, part.most/len(list))
			for k := range n {
				rows.Data = append(rows.Data, part.rows.Row(k*part.rows.Rows/n)...)
				m.Points = append(m.Points, embedmap.Point{Class: i, Sampled: part.sampled})
			}
			rows.Rows += n
		}
	}
	by := j.MapBy
	if by == "" {
		by = embedmap.Methods[0]
	}
	xy, how, err := embedmap.Lay(ctx, by, rows)
	if err != nil {
		return fmt.Errorf("map: %w", err)
	}
	for i := range m.Points {
		m.Points[i].X, m.Points[i].Y = xy[i][0], xy[i][1]
	}
	m.Lines = []string{settingsLine(p.method, p.params[0]), how}
	if len(list) < len(p.classes) {
		m.Lines[1] += fmt.Sprintf("; the first %d of %d classes", len(list), len(p.classes))
	}
	return m.SVG(o.drawing)
}

// settingsLine names the settings that a method uses.
func settingsLine(method sampler.Method, p sampler.Params) string {
	q, d := sampler.Message(method.Name(), p), method.Defaults()
	line := fmt.Sprintf("K %d, select %d", q.K, q.Select)
	for _, part := range []struct {
		used bool
		text string
	}{
		{d.Pick > 0, fmt.Sprintf(", pick %d", p.Pick)}, {d.Noises > 0, fmt.Sprintf(", noises %d", p.Noises)},
		{d.Sigma > 0, fmt.Sprintf(", sigma %.3g", p.Sigma)}, {d.Keep > 0, fmt.Sprintf(", keep %d", p.Keep)},
		{d.Alpha > 0, fmt.Sprintf(", alpha %.3g, beyond %d", p.Alpha, p.Beyond)},
		{d.Upper > 0, fmt.Sprintf(", shell %.3g to %.3g", p.Lower, p.Upper)},
		{!slices.Contains([]string{"", sampler.ModePaper}, p.Mode), ", mode " + p.Mode},
	} {
		if part.used {
			line += part.text
		}
	}
	return line + fmt.Sprintf(", seed %d", p.Seed)
}
