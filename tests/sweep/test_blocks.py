from harness.sweep.blocks import FigureBlock, Heading, Paragraph, TableBlock, markdown, page


def test_blocks_as_markdown():
    assert markdown(Heading("Costs", 3)) == "### Costs"
    assert markdown(Paragraph("of `cra`")) == "of `cra`"
    assert markdown(FigureBlock("a.png", "a figure")) == "![a figure](a.png)"
    table = TableBlock(("a", "b"), (("1", "x|y"),))
    assert markdown(table) == "| a | b |\n| --- | --- |\n| 1 | x\\|y |"


def test_blocks_as_a_page():
    body = page("A < B", [Heading("A & B", 1), Paragraph("of `cra` < 1"), TableBlock(("a",), (("<b>",),))])
    assert "<title>A &lt; B</title>" in body
    assert "<h1>A &amp; B</h1>" in body
    assert "<p>of <code>cra</code> &lt; 1</p>" in body
    assert "<table><tr><th>a</th></tr><tr><td>&lt;b&gt;</td></tr></table>" in body
