// Renders what pymdownx.arithmatex marks, with the KaTeX beside this file.
document$.subscribe(() => {
  for (const element of document.querySelectorAll(".arithmatex")) {
    const [, open, source] = element.textContent.trim().match(/^(\\\(|\\\[)([^]*)(?:\\\)|\\\])$/) ?? [];
    if (source) katex.render(source, element, { displayMode: open === "\\[", throwOnError: false });
  }
});
