package evaluation

import (
	"fmt"
	"math"
)

// Spread is a figure over several trainings, such as seeds.
type Spread struct {
	Mean float64 `json:"mean"`
	SD   float64 `json:"sd"` // of the sample; 0 of a single training
}

// Row is one line of a summary over several trainings.
type Row struct {
	Name   string            `json:"name"` // "id", a group or an OOD set
	Values map[string]Spread `json:"values"`
}

// Over summarises measurements of several trainings: rows for ID and shifted accuracy, the groups and the OOD sets. All
// must have been measured on the same sets.
func Over(list []Summary) ([]Row, error) {
	if len(list) == 0 {
		return nil, fmt.Errorf("no measurement was given")
	}
	first := list[0]
	for _, s := range list[1:] {
		if len(s.OOD) != len(first.OOD) || len(s.Averages) != len(first.Averages) {
			return nil, fmt.Errorf("%s was measured on other OOD sets than %s", s.Detector.Name, first.Detector.Name)
		}
		for k, r := range s.OOD {
			if r.Name != first.OOD[k].Name || r.Metrics.OOD != first.OOD[k].Metrics.OOD {
				return nil, fmt.Errorf("%s was measured on other OOD sets than %s: %s of %d pictures, %s of %d", s.Detector.Name, first.Detector.Name,
					r.Name, r.Metrics.OOD, first.OOD[k].Name, first.OOD[k].Metrics.OOD)
			}
		}
	}
	of := func(value func(Summary) float64) Spread {
		var values []float64
		for _, s := range list {
			values = append(values, value(s))
		}
		return spread(values)
	}
	id := Row{Name: "id", Values: map[string]Spread{"accuracy": of(func(s Summary) float64 { return s.ID.Accuracy }), "ece": of(func(s Summary) float64 { return s.ID.ECE })}}
	if len(first.Shifted) > 0 {
		id.Values["shifted_accuracy"] = of(func(s Summary) float64 { return s.ShiftedAccuracy })
	}
	rows := []Row{id}
	metrics := func(name string, five func(Summary) [5]float64) Row {
		r := Row{Name: name, Values: map[string]Spread{}}
		for j, metric := range oodMetrics {
			r.Values[metric] = of(func(s Summary) float64 { return five(s)[j] })
		}
		return r
	}
	for k, a := range first.Averages {
		rows = append(rows, metrics(a.Group, func(s Summary) [5]float64 {
			a := s.Averages[k]
			return [5]float64{a.AUROC, a.AUPRIn, a.AUPROut, a.FPR95IDPositive, a.FPR95OODPositive}
		}))
	}
	for k, r := range first.OOD {
		rows = append(rows, metrics(r.Name, func(s Summary) [5]float64 { return five(s.OOD[k].Metrics) }))
	}
	return rows, nil
}

func spread(values []float64) Spread {
	var s Spread
	for _, v := range values {
		s.Mean += v / float64(len(values))
	}
	for _, v := range values {
		s.SD += (v - s.Mean) * (v - s.Mean)
	}
	if len(values) > 1 {
		s.SD = math.Sqrt(s.SD / float64(len(values)-1))
	} else {
		s.SD = 0
	}
	return s
}
