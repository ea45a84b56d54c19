package trainer

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/dataset"
)

func pictures(t *testing.T, name string, labelled bool) *dataset.Dataset {
	t.Helper()
	read := dataset.OpenUnlabelled
	if labelled {
		read = dataset.Open
	}
	ds, err := read(t.Context(), filepath.Join("../../sample", name), dataset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

// TestOutliersThatAreIDPicturesAreFound on real pictures: copies, copies that were changed a little, some copies among
// others, and sets that are other pictures.
func TestOutliersThatAreIDPicturesAreFound(t *testing.T) {
	id := pictures(t, "cifar10_train.tar.gz", true)
	var copied *CopiesError
	if _, err := lookAlike(t.Context(), id, id); !errors.As(err, &copied) || !strings.Contains(err.Error(), "100 %") {
		t.Errorf("the ID pictures themselves: %v", err)
	}
	changed := id.Subset(spreadOver(id.Len(), 300))
	for i := range changed.Pixels { // as a codec does
		changed.Pixels[i] = min(changed.Pixels[i], 250) + uint8(i*7%5)
	}
	if _, err := lookAlike(t.Context(), id, changed); !errors.As(err, &copied) {
		t.Errorf("ID pictures with a little noise: %v", err)
	}
	for _, other := range []*dataset.Dataset{pictures(t, "cifar10_test.zip", true), pictures(t, "ood_textures.zip", false), pictures(t, "ood_cifar100.zip", false)} {
		if warnings, err := lookAlike(t.Context(), id, other); len(warnings) != 0 || err != nil {
			t.Errorf("%s: %v, %v", other.Name, warnings, err)
		}
	}
	textures := pictures(t, "ood_textures.zip", false)
	mixed := append(append([]uint8{}, textures.Pixels...), id.Subset(spreadOver(id.Len(), 60)).Pixels...)
	n := len(mixed) / (3 * textures.Size * textures.Size)
	some, err := dataset.FromPixels("mixed", []string{"x"}, textures.Size, mixed, make([]int32, n), nil)
	if err != nil {
		t.Fatal(err)
	}
	if warnings, err := lookAlike(t.Context(), id, some); len(warnings) != 1 || err != nil || !strings.Contains(warnings[0], "look like copies") {
		t.Errorf("60 copies of %d pictures: %v, %v", n, warnings, err)
	}
}

func TestClassesOfOutliersMustBeThoseOfTheDataset(t *testing.T) {
	classes := []string{"cat", "dog"}
	for _, good := range [][]string{nil, {"cat"}, {"dog", "cat"}} {
		if err := sameClasses("sets/s", good, classes); err != nil {
			t.Errorf("%v: %v", good, err)
		}
	}
	if err := sameClasses("sets/s", []string{"cat", "tank"}, classes); err == nil || !strings.Contains(err.Error(), "[tank]") || fieldsOf(err)[0] != "set" {
		t.Errorf("a class that is not there: %v", err)
	}
}
