package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// workspace holds a copy of the repository as it was when the run began, and a
// second one to break. Every mutant gets its fresh tree at the same path:
// the build cache knows packages by their directory, so only what the mutant
// touches is compiled again.
type workspace struct {
	dir   string
	files []string // relative, slash-separated
}

func (w *workspace) pristine() string { return filepath.Join(w.dir, "pristine") }
func (w *workspace) tree() string     { return filepath.Join(w.dir, "tree") }
func (w *workspace) temp() string     { return filepath.Join(w.dir, "tmp") }
func (w *workspace) remove()          { os.RemoveAll(w.dir) }

func newWorkspace(ctx context.Context, root string) (*workspace, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	files, err := listFiles(ctx, root)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return nil, err
	}
	w := &workspace{dir: dir, files: files}
	if err := errors.Join(w.makeTemp(), copyFiles(root, w.pristine(), files)); err != nil {
		w.remove()
		return nil, err
	}
	return w, nil
}

// makeTemp makes the tests' temporary directory: one that timed out removes
// nothing behind itself. A database server that a test starts under another
// user must find its way there.
func (w *workspace) makeTemp() error {
	return errors.Join(
		os.Mkdir(w.temp(), 0o777),
		os.Chmod(w.temp(), 0o777|fs.ModeSticky),
		os.Chmod(w.dir, 0o711))
}

// listFiles returns what git would commit: tracked files, and untracked ones
// that are not ignored.
func listFiles(ctx context.Context, root string) ([]string, error) {
	cmd := exec.CommandContext(ctx, "git", "-c", "safe.directory=*", "ls-files", "-z",
		"--cached", "--others", "--exclude-standard")
	cmd.Dir = root
	cmd.Env = gitEnv("")
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return nil, fmt.Errorf("list the files of %s: %w: %s", root, err, exit.Stderr)
	} else if err != nil {
		return nil, fmt.Errorf("list the files of %s: %w", root, err)
	}
	files := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	slices.Sort(files) // an unmerged file is listed once per side
	return slices.Compact(files), nil
}

// gitEnv is the environment without the variables that tie git to a
// repository (a hook sets them), and with a directory above which it looks for
// none.
func gitEnv(ceiling string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "GIT_DIR=") || strings.HasPrefix(v, "GIT_WORK_TREE=") || strings.HasPrefix(v, "GIT_INDEX_FILE=")
	})
	if ceiling != "" {
		env = append(env, "GIT_CEILING_DIRECTORIES="+ceiling)
	}
	return env
}

// reset makes the tree a fresh copy again.
func (w *workspace) reset() error {
	if err := os.RemoveAll(w.tree()); err != nil {
		return err
	}
	return copyFiles(w.pristine(), w.tree(), w.files)
}

// apply puts a patch on the fresh tree. Lines may have moved; what surrounds
// the change must not have changed.
func (w *workspace) apply(ctx context.Context, patch string) error {
	cmd := exec.CommandContext(ctx, "git", "apply", "--whitespace=nowarn", patch)
	cmd.Dir = w.tree()
	cmd.Env = gitEnv(w.dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git apply: %w\n%s", err, out)
	}
	return nil
}

// copyFiles copies the files that exist, with their modes; git also lists a
// tracked file that was just deleted.
func copyFiles(from, to string, files []string) error {
	for _, name := range files {
		source, target := filepath.Join(from, name), filepath.Join(to, name)
		info, err := os.Lstat(source)
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.IsDir() {
			continue
		}
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := copyFile(source, target, info.Mode()); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(source, target string, mode fs.FileMode) error {
	if mode&fs.ModeSymlink != 0 {
		link, err := os.Readlink(source)
		if err != nil {
			return err
		}
		return os.Symlink(link, target)
	}
	data, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	return os.WriteFile(target, data, mode.Perm())
}
