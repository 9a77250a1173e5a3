package election_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each test that the pages name exists, and each link between the pages leads somewhere.
func TestGuaranteesNameTestsThatExist(t *testing.T) {
	var text strings.Builder
	for _, page := range pages(t) {
		content, err := os.ReadFile(page)
		require.NoError(t, err)
		text.Write(content)
	}
	var sources strings.Builder
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.go") {
			source, err := os.ReadFile(path)
			sources.Write(source)
			return err
		}
		return err
	}))
	named := regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(text.String(), -1)
	require.Greater(t, len(named), 50)
	for _, name := range named {
		require.Contains(t, sources.String(), "func "+name[1]+"(")
	}
}

// Each link from a page to another one, or into one, leads to a file and to a heading.
func TestLinksBetweenPagesLeadSomewhere(t *testing.T) {
	headings := map[string]map[string]bool{}
	for _, page := range pages(t) {
		content, err := os.ReadFile(page)
		require.NoError(t, err)
		headings[page] = map[string]bool{}
		for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(content), -1) {
			headings[page][anchor(heading[1])] = true
		}
	}
	links := 0
	for page := range headings {
		content, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, link := range regexp.MustCompile(`\]\(([^)\s]*)\)`).FindAllStringSubmatch(string(content), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			links++
			file, fragment, _ := strings.Cut(link[1], "#")
			target := filepath.Join(filepath.Dir(page), file)
			if file == "" {
				target = page
			}
			_, err := os.Stat(target)
			require.NoError(t, err, "%s: %s", page, link[1])
			if fragment != "" {
				require.True(t, headings[target][fragment], "%s: %s names no heading", page, link[1])
			}
		}
	}
	require.Greater(t, links, 50)
}

// anchor is what a heading is linked by.
func anchor(heading string) string {
	return strings.ReplaceAll(regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}

func pages(t *testing.T) []string {
	t.Helper()
	docs, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	root, err := filepath.Glob("*.md")
	require.NoError(t, err)
	return append(docs, root...)
}
