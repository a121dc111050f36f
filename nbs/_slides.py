"""Slides for each lesson, made from its own cells: one HTML file a lesson, which needs nothing else.

    python nbs/_slides.py            # into out/slides; a double click opens one

What is on a slide stands in the lesson and nowhere else. SLIDES only points at it, by the id of a code cell and by the
first words of sentences. A pointer that leads nowhere, or to two sentences, is an error: then look at that slide again.
"""

import base64
import html
import io
import json
import re
import sys
import textwrap
from pathlib import Path
from string import Template

import mistune
from matplotlib.mathtext import math_to_image
from PIL import Image

NBS = Path(__file__).resolve().parent
LESSONS = sorted(path for path in NBS.glob("[01]*.ipynb") if not path.name.startswith("00"))

# The slides of a lesson between the first one and "What to remember", a line for each: a cell, whose picture is shown
# (else its table, else what it prints, else its code), or None; then how the sentences begin that are shown with it.
# The heading is that of the cell's section. At most 12 lines a lesson, which makes 15 slides.
SLIDES = {
    "01_world": [
        ("c27e207f", "Now you turn left", "What is painted on it?", "If it looks only"),
        ("66783e4b", "Remember one colour", "We need walls with parts"),
        ("ff5e3150", "No model can learn", "A model that paints the right"),
        ("496d17db", "One blocked step", "We leave that problem out"),
        ("05b80561", "The paper draws", "Half of the bundles", "That is how a walk"),
        ("3719c175", "The same seed gives the same frames, bit", "So a data set"),
        ("55fe0987", "And here is what odometry", "The path has the right shape", "It may lie"),
        ("864ef2de", "That is fair only"),
        ("11490043", "The paper's answer", "Random walks often"),
        ("fef7a132", "This curve is the reason", "A model whose window", "MilliVid's idea"),
        ("6b55db0e", "The upper row is", "It has stripes"),
        ("ab79b691", "So a model with a short", "The whole context, however"),
    ],
    "02_pyramid": [
        ("831d8a70", "In attention every token", "Nobody can afford it"),
        (None, "160 tokens are ten full", "Ten sharp frames, and", "This is the dilemma", "The way out",
         "To know that a wall"),
        ("6b1ed16c", "Which pixels survive", "An average does"),
        ("03071b54", "Level 0", "Edges turn", "Colours and layout"),
        ("8785fd7b", "A patch is ph", "Token 0 is"),
        ("92f0a782", "Now the decisive choice", "Every token costs", "Keeping the whole"),
        ("81032d09", "At each coarser level", "Ten sharp frames do not", "The coarsest memory"),
        ("00bafafe", "We ask the test episodes"),
        ("dd05b9d9", "Because a tiny", "Levels are combined", "The model first paints", "Then it fills in",
         "Windows of 2, 8"),
        ("513d4a6c", "Nothing here is special", "Images may be wide"),
    ],
    "03_layers": [
        (None, "This lesson builds five", "| part"),
        ("9ba7df4d", "Attention is a soft", "Every remembered", "The newest frame, 127"),
        ("4b414e29", "A dot product of raw", "We need keys"),
        ("06a88595", "An attention layer without", "Distance in time"),
        ("15b919b1", "When training makes", "The remedy is to divide", "What is left"),
        ("7e20bd14", "Nothing in attention", "So every token gets", "Each place fits"),
        ("435852ac", "Attention averages", "Without the stream", "With it, a token"),
        (None, "So it must behave", "DiT found", "That is six vectors", "In DiT the condition", "Here it belongs"),
        ("3582a341", "A zero gate", "The stack with open"),
        ("b0c7abcc", "A code of t", "The remedy is an old"),
        ("d0aaffda", "That last token", "Where does it look", "In the first block", "Heads 1 and 3"),
        ("4a9741e3", "At the paper's budget", "Twice the tokens"),
    ],
    "04_tokenizer": [
        ("686e3661", "The same four tokens", "A mean cannot say", "So the coarse tokens"),
        (None, "All levels of the image", "A token of level 2 starts", "But it can attend", "At the end each token",
         "So no latent"),
        (None, "One decoder reads", "One is enough", "The sequence always", "Those of the level",
         "The decoder predicts"),
        (None, "Every sample of a batch", "So no level can", "The pyramid has fewer", "The weight 4"),
        ("8e8f2b40", "Half a minute", "The learned latents", "This proves"),
        ("6e6328a2", "The curves rise", "And the levels stay"),
        ("40ffcb0d", "Begin with the row", "Its single token", "Level 1 adds", "Level 0 adds"),
        ("3aeb49b1", "So a model that remembers"),
        ("526a955d", "The dotted line", "Learned tokens are"),
        ("b7f578c6", "Each column", "Equal colours", "One token is enough"),
        ("4668c233", "How far does ours", "Not far.", "The finest level", "The coarsest paints", "A tokenizer is only"),
    ],
    "05_diffusion": [
        ("4ffa9443", "It could be any", "The single picture", "We do not want", "We want"),
        ("0d5b501a", "`add_noise`", "What the noise destroys", "So going backwards"),
        ("11dfd1bf", "A network is always", "Suppose its error", "At t = 1 a prediction", "And t = 1"),
        ("8d426d00", "Going from data", "$$x_t", "From x_t and v"),
        ("f5fc08d8", "The remedy: take", "Form x_t anew", "As t falls"),
        ("dd1a0010", "The network finds", "A tenth of its"),
        ("51eb6729", "First attempt", "A plausible", "The model could not", "Pure noise stood"),
        ("9aa0a10b", "The remedy** is", "The past is at", "The same denoiser"),
        ("6d3db252", "Now it must be", "This is what we asked"),
        ("e4a6ab8f", "Read it from", "At high t the", "So do not expect"),
        ("dd1a0017", "What the first network", "Told", "Longer training"),
        ("e0fe860e", "Guidance** exaggerates", "Guidance makes samples", "The paper finds"),
    ],
    "06_schedule": [
        ("95a47479", "So what is older", "The wall that the walker walks to", "It was last seen"),
        ("97e48724", "So a step is not", "A schedule is a list of such"),
        ("ee474946", "So first generate", "Then generate", "the fine step does", "the coarse step does"),
        ("8919a1fb", "Every column is one", "In more than half", "The fault is", "From it follow"),
        ("6261eaa3", "MilliVid goes **depth", "Only then"),
        ("fdd0f2b3", "Both pointers start at the beginning", "The past gets coarser"),
        ("61e1bc05", "Step 0** makes 32", "It looks at the newest 2"),
        ("fb3573f0", "Each band is", "Read downwards"),
        ("6102dfbb", "Only the coarsest step has", "The other steps", "The coarse step remembers"),
        ("d21bf26b", "FramePack sees as far", "They differ in", "This is the paper's explanation"),
        ("6115edf8", "Each new level", "The price is"),
        ("7ceae5ac", "A chunk finishes", "For a longer", "Orange at the top"),
    ],
    "07_video": [
        (None, "The answer fits", "how noisy", "where", "whether", "from where"),
        ("ffd73991", "A step is a set", "Four arrays", "The further back"),
        ("a108b7fd", "It is not badly", "So every token gets its"),
        ("40ddbba8", "All context of the batch", "A sample's denoised", "So a condition for every"),
        ("07fact23", "The same room, the same weights", "A step only needs", "So frames are counted"),
        (None, "In a batch every sample", "Then the short", "Attention must not", "And its frame number"),
        ("cfab02d3", "So our small models", "With these features", "It is a search"),
        ("07fact42", "Without level", "Without pose", "So each fact"),
        (None, "Everything between embedded", "One model, every", "The batch holds", "No switch", "Nor does"),
        ("69eb0a47", "The first block looks", "The later ones"),
        ("b4451f4f", "Here are all 32", "A circle marks", "Nobody told the model", "It had to predict"),
        ("63ffef8a", "The older a context", "FramePack's coarse", "MilliVid's levels"),
    ],
    "08_rollout": [
        ("e814026f", "From frame 128 on", "The very same view", "This is what has"),
        ("5900507b", "What the context does not show", "The cure is", "Sharper, and", "That is the fault"),
        ("d15fbfae", "Now the loop"),
        ("f6a1c0de", "These eight lines", "`generate` is the same"),
        ("061b3d0a", "So we replace it", "It looks up", "If the loop is right"),
        ("f6a1c0d1", "So we can decode", "The three should"),
        ("bda471bc", "Step 0** decides", "The stripes of", "Step 1**", "The frames on the right"),
        ("0572aa13", "So the cost of a rollout", "Ordinary video models make", "There attention",
         "How many times more"),
        ("dd169295", "At +6 the walker has", "MilliVid paints the stripes", "Full resolution looks at five",
         "It knows from", "FramePack invents"),
        ("d192e786", "MilliVid paints the same", "The others paint", "Frame 69"),
        ("0e279626", "MilliVid remembers", "All it had", "Full resolution could"),
        ("5b8f1bd4", "So three things", "A `Pipeline` holds", "Here is the running"),
    ],
    "09_data": [
        (None, "What exactly is", "files", "latents and", "clips", "examples", "another world"),
        ("874c8841", "Every fourth pixel invents", "The antialiased"),
        ("db6201b5", "The running example: after", "In all three levels", "So the answer to"),
        ("e3514cd5", "Our mini models get", "The integrated walk", "So it is the true"),
        ("077d5fac", "But a room is small", "So we encode"),
        ("a2d95506", "MilliVid's windows do", "The five and five", "What found it"),
        ("7aebd694", "Take a clip", "Draw one step", "The step's matrix"),
        ("fa63494b", "Since every level", "Blue frames"),
        ("89e091f6", "Then the shorter", "They carry zeros"),
        ("4c4f4ed5", "If all steps were", "The paper draws"),
        ("055c2297", "Its example of", "No wall that"),
        ("443d9b24", "Here odometry is", "In our rooms it is"),
    ],
    "10_training": [
        ("9bb5fcd4", "It learns.", "But look at what", "Would another step", "And if the power"),
        ("6fd4640e", "At the start: slowly", "So the rate rises", "At the end: slowly", "Let it fall to zero"),
        ("d36cc1c0", "But a matrix is", "It replaces the gradient"),
        ("8f1393b7", "The split is", "Muon begins", "One toy"),
        ("290bbe23", "One odd batch", "Where it exceeds"),
        ("0edaeecc", "The second half", "The averages of the", "The remedy is to let", "The second trap",
         "So files are"),
        ("4d9db3ba", "An experiment", "Read it by columns"),
        ("07c62964", "A minute teaches", "What is painted on the wall at"),
        ("lab00008", "The losses do not", "After these few", "FramePack had the same"),
        ("2cde0c07", "The last part of each", "None of the three has", "The decay then"),
        (None, "Decay", "Odometry", "Batch", "Threads"),
    ],
    "11_evaluation": [
        ("8aa65d92", "Gray beats", "So a decibel", "It needs **the same"),
        (None, "The paper reports three", "Each error"),
        (None, "The truth, encoded", "No model that works", "A frame of another", "The mean of the context frames",
         "The average room", "A random frame of"),
        ("26015bba", "Another room from the same", "The mean of many", "By squared error"),
        ("803aae0b", "All three models have", "All three are told"),
        ("95e1db04", "Look at *where*"),
        ("1ab744b4", "Numbers can hide", "So look.", "MilliVid shows the right"),
        ("cfaa9eab", "And the truth moved", "PSNR sees that", "One pixel"),
        ("0acacc13", "Memory can only", "A new pose is"),
        ("5f8b8e2a", "A generated video can", "It can show", "Half an answer"),
        (None, "A mean over some", "The bootstrap asks", "Frames of one episode"),
        ("fb95ab24", "To take them apart", "All three know", "MilliVid draws what", "The other two"),
    ],
    "12_results": [
        ("0e46c2c7", "Every number is", "Beside the long"),
        (None, "MilliVid keeps most", "MilliVid loses about", "They do not lose", "Full resolution cannot",
         "FramePack could, and", "MilliVid is not the best", "And with the pose one"),
        ("46364049", "Whoever knows the pose", "On a new view the copy", "That is what these"),
        (None, "A video is another matter", "Upscaling makes more"),
        ("b8d7e879", "None of these four", "So late in", "MilliVid loses a little"),
        ("12hor002", "From the frame on", "MilliVid loses here"),
        ("fb3f697d", "First one episode", "Do not look at"),
        ("b19c3114", "And for each method", "What to look for: MilliVid"),
        ("31565e86", "FramePack and full resolution begin"),
        (None, "A diagnosis can", "After 1,200 steps MilliVid's", "Full resolution, which", "FramePack could know",
         "Its trouble begins"),
        ("8c0d31eb", "Decibels of different", "The order of", "The gaps are"),
    ],
    "13_why": [
        ("0549551b", "Of these seven", "Their values cannot"),
        (None, "Mirrored FramePack is", "But in every step", "It keeps the two", "That is worth", "So having the past"),
        ("3368c664", "Read a row", "After 1,200 steps the plan", "After 8,000 steps each"),
        ("c13be804", "Is it the plan", "Along a row", "Down a column"),
        ("5b2a8a07", "If plan and refinement", "Upscaling is truer"),
        ("b74d0866", "A sharper look", "It drops at all", "So a new plan costs"),
        ("13hid005", "The colours do change", "But mostly not for", "So MilliVid stays", "To agree is not"),
        ("e37ec414", "One difference to", "The paper's models see"),
        ("8d6a4876", "Without being told", "Most corners are", "What is on the walls"),
        ("58f43aa6", "Of the oldest frames", "So the wall behind", "Half a turn is what"),
        (None, "A small world", "A room has", "Tuning", "We chose", "Seeds", "Their intervals say", "Odometry.**",
         "Our models are told where they are", "Without that"),
        ("41fde416", "After as many steps", "MilliVid is 5.2 dB"),
    ],
    "14_play": [
        ("e1000003", "What does a frame lose", "One token, sixteen", "With four tokens"),
        ("e1000006", "With the context, one", "But this context", "Without the context, the guess"),
        ("e1000009", "Watch MilliVid go"),
        ("e1000015", "The first step decides", "The other twenty"),
        ("e1000018", "In that first step", "A dot marks"),
        ("8c6b2d34", "A room of its own", "No model has"),
        ("e1000019", "You stand where", "The models get", "They never see"),
        ("161730a4", "Compare down a column", "MilliVid's first step still", "FramePack begins well"),
        (None, "MilliVid needs the actions of the next", "Its first step paints", "A game that",
         "FramePack paints two", "The long plan"),
        ("65eb53d8", "Both follow", "FramePack makes two", "MilliVid's differ", "It plans a whole"),
        ("cd6b281e", "At the end MilliVid's", "What it remembers"),
        ("6f052ff8", "By the plan that", "Rollout and upscaling does", "But be careful"),
    ],
    "15_scaling": [
        ("601dd922", "A block of width", "A multiplication comes"),
        ("c9b5fe63", "A hundred times"),
        ("9be49d60", "So at this length", "What the rollout really"),
        ("dc2eb9b8", "This is the honest", "But MilliVid visits", "The extra price"),
        ("b2aa4017", "\"All at once\"", "Longer videos"),
        ("5cdbe050", "`millivid measure` builds", "It fits into"),
        ("801cda76", "But the release's test", "The speeds are"),
        ("cb58750a", "The backward pass", "So a laptop can"),
        (None, "Where does it break", "Not at the length", "It breaks at"),
        ("scl00002", "Less than two days", "Put in your own"),
        ("scl00006", "With a hundred hours", "With a million", "Then you would train"),
    ],
    "16_own_videos": [
        ("own05", "After `149.png`", "A model would learn"),
        ("own07", "And an hour of video"),
        ("own10", "Actions come as a CSV", "Poses are worth much"),
        ("own12", "A mistake in the third", "What no check can see"),
        ("own16", "With one token it draws", "What it has never seen"),
        ("own20", "So first a tokenizer"),
        ("own22", "A training example is cut", "So the windows", "Short recordings cost"),
        ("own25", "Before you train for hours", "If it cannot do that"),
        ("own27", "But a step sees only", "The first chunk is there"),
        ("own29", "The frames are those"),
    ],
}

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>$title</title>
<style>
:root { color-scheme: light dark; --back: #ffffff; --text: #1d2129; --soft: #5b6270; --line: #d5d8de; --link: #0062a3 }
@media screen and (prefers-color-scheme: dark) {
  :root { --back: #16181d; --text: #e8eaee; --soft: #a5abb8; --line: #3a3f4a; --link: #7cc0f5 }
  .math { filter: invert(1); mix-blend-mode: screen }
}
html { font: min(1.9vw, 3.38vh)/1.35 system-ui, sans-serif; background: var(--back); color: var(--text) }
body, figure, h1, h2, pre { margin: 0 }
section { display: none; flex-direction: column; gap: .8rem; position: relative; overflow: auto;
  box-sizing: border-box; width: 100vw; height: 100vh; padding: 1.6rem 2.4rem 1.8rem }
section.now { display: flex }
h1 { font-size: 2.4rem; line-height: 1.1 }
h2 { font-size: 1.5rem; line-height: 1.15 }
p, ul, ol { margin: 0 0 .4em }
ul, ol { padding-left: 1.2em }
li { margin-bottom: .35em }
a { color: var(--link) }
blockquote { margin: .6rem 0 1.6rem; font-size: 1.25rem; color: var(--soft) }
.body { flex: 1; min-height: 0; display: flex; flex-direction: column; gap: .6rem }
.beside .body { flex-direction: row; gap: 1.6rem }
.beside .words { flex: 0 0 34% }
.first .body, .alone .body { justify-content: center; padding-bottom: 2rem }
.alone .words { font-size: 1.15rem }
.long .words { font-size: 1rem }
figure { flex: 1; min-height: 0; min-width: 0; display: flex; flex-direction: column; gap: .4rem }
figure img { flex: 1; min-height: 0; width: 100%; object-fit: contain }
figcaption { font-size: .62rem; line-height: 1.3; color: var(--soft) }
table { border-collapse: collapse; line-height: 1.25; margin-bottom: .6em }
th, td { padding: .2em .7em; border-bottom: 1px solid var(--line); text-align: left }
td[style*=right] { white-space: nowrap }
code, pre { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .88em }
pre { padding: .8em 1em; border: 1px solid var(--line); border-radius: .3em; white-space: pre-wrap; font-size: 1em }
footer { position: absolute; right: 1.2rem; bottom: .5rem; font-size: .6rem; color: var(--soft) }
@page { size: 1280px 720px; margin: 0 }
@media print {
  html { font-size: 24.3px }
  section { display: flex; width: 1280px; height: 720px; overflow: hidden; break-after: page }
  section:last-of-type { break-after: auto }
}
</style>
$slides
<script>
const slides = document.querySelectorAll("section")
const within = number => Math.min(Math.max(number, 1), slides.length)
const now = () => within(parseInt(location.hash.slice(1)) || 1)
const go = number => location.replace("#" + within(number))
const draw = () => slides.forEach((slide, i) => slide.classList.toggle("now", i + 1 === now()))
const moves = { ArrowRight: 1, ArrowDown: 1, PageDown: 1, " ": 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1,
  Home: -1000, End: 1000 }
addEventListener("hashchange", draw)
addEventListener("keydown", event => {
  if (!(event.key in moves) || event.ctrlKey || event.altKey || event.metaKey) return
  event.preventDefault()
  go(now() + (event.shiftKey ? -1 : 1) * moves[event.key])
})
addEventListener("click", event => {
  if (event.target.closest("a") || !getSelection().isCollapsed) return
  go(now() + (event.clientX < innerWidth / 4 ? -1 : 1))
})
draw()
</script>
</html>
""")

ITEM = re.compile(r"[-*] |\d+\. ")  # how an item of a list begins


def read(path: Path):
    "A lesson's sections (heading, blocks of text); and its code cells by id, each with the number of its section."
    sections, cells = [], {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            cells[cell["id"]] = (cell, len(sections) - 1)
            continue
        text = re.sub(r"<details>.*?</details>", "", text, flags=re.S)
        text = re.sub(r"^(#+ .*)$", r"\n\1\n", text, flags=re.M)
        for block in re.split(rf"\n\s*\n|\n(?={ITEM.pattern})", text):  # a paragraph, or an item of a list
            block = block.strip()
            if block.startswith("#"):
                sections.append((block.lstrip("# "), []))
            elif block:
                sections[-1][1].append(block if block.startswith("|") else " ".join(block.split()))
    return sections, cells


def sentences(block: str) -> list[str]:
    "A table counts as one."
    if block.startswith("|"):
        return [block]
    mark = ITEM.match(block)
    return re.findall(r"\S.*?[.?!][*)\"]*(?=\s+[^a-z\s]|$)|\S.*$", block[mark.end():] if mark else block)


def formula(tex: str) -> str:
    "A formula as a picture: there may be no network to bring MathJax."
    depth = math_to_image(f"${tex}$", drawn := io.BytesIO(), dpi=72, format="svg")  # of letters of 10 points
    height = float(re.search(rb'height="([\d.]+)pt"', drawn.getvalue())[1])
    return (f'<img class="math" alt="{html.escape(tex)}" style="height: {height / 10:.2f}em; vertical-align: '
            f'{-depth / 10:.2f}em" src="data:image/svg+xml;base64,{base64.b64encode(drawn.getvalue()).decode()}">')


def link(match) -> str:
    "Another lesson has slides; other notebooks have none, and are only named."
    name, target = match.groups()
    if not target.endswith(".ipynb"):
        return match[0]
    return f"[{name}]({target[:-6]}.html)" if NBS / target in LESSONS else name


def to_html(text: str) -> str:
    text = re.sub(r"\[([^\]]+)\]\(([^)]+)\)", link, text)
    text = re.sub(r"\$\$?(.+?)\$\$?", lambda match: formula(match[1]), text)
    return mistune.create_markdown(escape=False, plugins=["table"])(text)


def figure(cell) -> tuple[str, str]:
    "What a cell shows, and how it stands on the slide: a picture that is not wide stands beside the text."
    data = [output.get("data", {}) for output in cell["outputs"]]
    shown = "".join("".join(each.get("text/html", "")) for each in data)
    if picture := re.search(r'<img src="(data:image/\w+;base64,([^"]+))" alt="([^"]+)"', shown):
        source, content, alt = picture.groups()
        width, height = Image.open(io.BytesIO(base64.b64decode(content))).size
        caption = " ".join(sentences(alt)[:2])
        return (f'<figure><img src="{source}" alt="{alt}"><figcaption>{caption}</figcaption></figure>',
                "beside" if width / height < 1.6 else "below")
    if table := "\n".join("".join(each.get("text/markdown", "")) for each in data).strip():
        size = min(.8, 10 / table.count("\n"))  # so that all rows fit
        return f'<figure style="font-size: {size:.2f}rem">{to_html(table)}</figure>', "below"
    printed = "".join("".join(output.get("text", "")) for output in cell["outputs"])
    code = "".join(line for line in cell["source"] if not line.startswith("#|"))
    text = textwrap.dedent(printed or code).strip("\n")
    size = min(.95, 72 / max(map(len, text.splitlines())))  # so that the longest line fits
    return f'<figure style="font-size: {size:.2f}rem"><pre>{html.escape(text)}</pre></figure>', "below"


def slide(heading: str, words: str, kind: str, shown: str = "") -> str:
    return (f'<section class="{kind}"><h2>{html.escape(heading)}</h2><div class="body">'
            f'<div class="words">{to_html(words)}</div>{shown}</div>')


def make_slides(path: Path) -> str:
    "The page with the slides of a lesson."
    sections, cells = read(path)
    end = [heading for heading, _ in sections].index("What to remember")  # exercises follow
    cells = {name: (cell, number) for name, (cell, number) in cells.items() if number < end}
    said = [(number, block, sentence) for number, (_, blocks) in enumerate(sections[:end])
            for block in blocks for sentence in sentences(block)]
    title, head = sections[0]
    lead = "\n\n".join(re.sub(r"(?<=\.) (?=\*\*)", "\n\n", block) for block in head
                       if block.startswith((">", "**You need**")))
    made = [f'<section class="first"><div class="body"><h1>{html.escape(title)}</h1>{to_html(lead)}</div>']
    wrong = []
    for name, *openings in SLIDES[path.stem]:
        if name is not None and name not in cells:
            wrong.append(f"there is no code cell {name}")
            continue
        chosen = {}  # block -> sentences
        for opening in openings:
            fits = [each for each in said if each[2].lstrip("*").startswith(opening)]
            if len(fits) != 1:
                wrong.append(f"{len(fits)} sentences begin with {opening!r}, not one")
                continue
            number, block, sentence = fits[0]
            chosen.setdefault(block, []).append(sentence)
        shown, kind = "", "alone"
        if name is not None:
            cell, number = cells[name]
            shown, kind = figure(cell)
        words = "\n\n".join((ITEM.match(block) or [""])[0] + " ".join(some) for block, some in chosen.items())
        made.append(slide(sections[number][0], words, kind, shown))
    if wrong:
        raise LookupError("\n    ".join([f"{path.name} does not fit SLIDES in nbs/_slides.py any more, mend it there:",
                                         *wrong]))
    for heading in ("What to remember", "For a discussion"):
        blocks = dict(sections)[heading]
        words = "\n".join(filter(ITEM.match, blocks)) or "\n\n".join(blocks)
        made.append(slide(heading, words, "alone" if len(words) < 500 else "alone long"))
    made = [f"{each}<footer>{html.escape(title)} · {number} / {len(made)}</footer></section>"
            for number, each in enumerate(made, 1)]
    return PAGE.substitute(title=html.escape(title), slides="\n".join(made))


def main():
    if len(sys.argv) > 2:
        sys.exit("usage: python nbs/_slides.py [FOLDER]")
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else NBS.parent / "out" / "slides"
    pages, wrong = {}, []
    for path in LESSONS:
        try:
            pages[f"{path.stem}.html"] = make_slides(path)
        except LookupError as error:
            wrong.append(str(error))
    if wrong:  # nothing is written then
        sys.exit("\n".join(wrong))
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in pages.items():
        (folder / name).write_text(page, encoding="utf-8")
    print(f"slides of {len(pages)} lessons are in {folder}")


if __name__ == "__main__":
    main()
