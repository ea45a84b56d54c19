package trainer

import (
	"cmp"
	"slices"
	"strings"

	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/fault"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// Resize policies of outliers beside the filters of package dataset.
const (
	resizeRandom = "random" // bilinear or nearest
	resizeCrop   = "crop"   // a random part, not resized
)

var resizes = []string{string(dataset.Bicubic), string(dataset.Bilinear), string(dataset.Nearest), resizeRandom, resizeCrop}

// augmentOf is how pictures are varied.
func augmentOf(a *trainerv1.Augmentation) dataset.Augment {
	if a == nil {
		return dataset.Standard()
	}
	out := dataset.Augment{Pad: int(a.Pad), Flip: a.Flip, Cutout: int(a.Cutout), Operations: int(a.Operations), Magnitude: int(a.Magnitude)}
	if out.Operations > 0 {
		out.Magnitude = cmp.Or(out.Magnitude, dataset.DefaultMagnitude)
	}
	return out
}

func augmentationOf(a dataset.Augment) *trainerv1.Augmentation {
	return &trainerv1.Augmentation{Pad: int32(a.Pad), Flip: a.Flip, Cutout: int32(a.Cutout), Operations: int32(a.Operations), Magnitude: int32(a.Magnitude)}
}

// checkPictures looks at the settings of pictures, and fills their defaults.
func checkPictures(c *fault.Checks, s *Settings, t *trainerv1.DetectorTraining, set string) {
	if set != "" {
		s.OutlierResize = cmp.Or(s.OutlierResize, string(dataset.Bicubic))
	}
	c.That(s.OutlierResize == "" || slices.Contains(resizes, s.OutlierResize), "training.outlier_resize", "%q; want one of %s", s.OutlierResize, strings.Join(resizes, ", "))
	c.That(s.OutlierResize == "" || set != "", "training.outlier_resize", "%q; there are no outliers: name a set", s.OutlierResize)
	c.That(s.CodecShare >= 0 && s.CodecShare <= 1, "training.codec_share", "%g; want 0 to 1", s.CodecShare)
	c.That(s.CodecShare == 0 || s.CodecModel != "" || set != "", "training.codec_share", "%g; without a set name the model whose VAE it is: codec_model", s.CodecShare)
	c.That(s.CodecShare != 0 || s.CodecModel == "", "training.codec_model", "%q; it needs codec_share", s.CodecModel)
	if err := s.Augment.Check(imageSize); err != nil {
		c.Add("training.augmentation", "%v", err)
	}
}
