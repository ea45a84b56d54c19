// Package report writes the page that shows what a run did: one self-contained HTML file with the pictures, the
// embedding map, the scores, the curves and the settings, for readers who were not there.
//
// The input is plain data, so that a demo, a client or a test can fill it. The page loads nothing from anywhere, needs
// no script, follows the reader's light or dark setting, and says "no data" where a part is missing or not a number.
package report

import "time"

// Page is everything that the report shows. Every part may be empty.
type Page struct {
	// Title is the headline.
	Title string
	// Subtitle says in a line what was run.
	Subtitle string
	// Generated is when the results were made; the zero time is not shown.
	Generated time.Time
	// Version is that of the program.
	Version string
	// Classes are the ID classes, in label order.
	Classes []Class
	// Outliers is the number of outliers in the set; zero counts those of the gallery and the map.
	Outliers int
	// Map is a plane view of the embedding space.
	Map Map
	// Detectors are compared with the first one, the baseline.
	Detectors []Detector
	// Space is the text-conditioned embedding space.
	Space Space
	// Settings are tables of what was set, e.g. one each for sampling, rendering and training.
	Settings []Table
	// Provenance says what the results were made from: digests, models, seeds.
	Provenance []KV
	// Timings says how long each part took.
	Timings []KV
	// Notes are remarks that a reader must know to judge the numbers.
	Notes []string
}

// Class is what the gallery shows of one ID class.
type Class struct {
	// Name is the class's name in the dataset.
	Name string
	// Word stands for the class in prompts; empty means Name.
	Word string
	// Inliers are real ID pictures, PNG, nearest neighbours of the outliers shown.
	Inliers [][]byte
	// Words are pictures of the class word by the diffusion model, PNG.
	Words [][]byte
	// Outliers are the imagined pictures.
	Outliers []Picture
}

// Picture is an imagined outlier.
type Picture struct {
	// PNG is the encoded picture.
	PNG []byte
	// KthDistance is the distance of its embedding to the k-th nearest ID embedding of its class.
	KthDistance float64
	// AnchorCosine is the cosine of its embedding to the anchor of its class, −1 to 1.
	AnchorCosine float64
	// Index is its number in the outlier set.
	Index int
}

// Map is the embedding space projected on a plane, e.g. on its first two principal components.
type Map struct {
	// Points are ID embeddings and outliers.
	Points []MapPoint
	// Anchors are the class words.
	Anchors []Anchor
	// Explained is the share of the variance along each axis, 0 to 1.
	Explained [2]float64
}

// MapPoint is one embedding.
type MapPoint struct {
	X, Y float64
	// Class indexes Page.Classes; any other value is drawn without a class.
	Class int
	// Outlier tells an imagined embedding from an ID one.
	Outlier bool
}

// Anchor is the token embedding of a class word.
type Anchor struct {
	X, Y float64
	// Class indexes Page.Classes, whose name is the label.
	Class int
}

// Detector is a classifier and how it was measured. Scores are higher for ID.
type Detector struct {
	// Name tells it from the others, e.g. "plain" or "with imagined outliers".
	Name string
	// Accuracy is the share of ID test pictures that get their class, 0 to 1.
	Accuracy float64
	// IDCount is the number of ID test pictures; zero means len(IDScores).
	IDCount int
	// IDScores are the scores of ID test pictures, or an even sample of them.
	IDScores []float32
	// Threshold is the score below which a picture is called out of distribution.
	Threshold float64
	// OOD are the measurements against OOD sets; sets are matched between detectors by name.
	OOD []OODResult
	// Loss is the training curve.
	Loss []LossPoint
}

// OODResult is a measurement against one OOD set. ID is the positive class unless said otherwise; shares are 0 to 1.
type OODResult struct {
	// Name is that of the OOD set.
	Name string
	// Apart is why the set is left out of the mean over sets; empty means that it counts.
	Apart string
	// Count is its number of pictures; zero means len(Scores).
	Count int
	// AUROC is the area under the ROC curve.
	AUROC float64
	// AUPRIn is the average precision with ID as the positive class, AUPROut with OOD as it.
	AUPRIn, AUPROut float64
	// FPR95 is the share of OOD accepted when 95 % of ID is (the convention of Dream-OOD).
	FPR95 float64
	// FPR95OODPositive is the share of ID refused when 95 % of OOD is (the convention of OpenOOD).
	FPR95OODPositive float64
	// Scores are the scores of its pictures, or an even sample of them.
	Scores []float32
	// ROCFPR and ROCTPR are the ROC curve: share of OOD accepted, share of ID accepted.
	ROCFPR, ROCTPR []float32
}

// LossPoint is one point of a detector's training curve.
type LossPoint struct {
	Step int
	// Total is L_CE + β·L_ood.
	Total float64
	// Classification is L_CE.
	Classification float64
	// OOD is L_ood; zero throughout for a plain classifier.
	OOD float64
}

// Space says how the text-conditioned embedding space was learnt.
type Space struct {
	// Model is the diffusion model whose token embeddings are the anchors.
	Model string
	// Accuracy is the share of held-out pictures whose nearest anchor is their class, 0 to 1.
	Accuracy float64
	// Dimension is the length of an embedding.
	Dimension int
	// Bank is the number of ID embeddings kept.
	Bank int
	// Loss is the training curve.
	Loss []CurvePoint
}

// CurvePoint is one point of a curve over training steps.
type CurvePoint struct {
	Step  int
	Value float64
}

// Table is a titled list of settings.
type Table struct {
	Title string
	Rows  []KV
}

// KV is one row: what, and its value as it should read.
type KV struct{ Key, Value string }
