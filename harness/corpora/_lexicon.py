"""The words and sentence patterns of the demo corpus."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Place(NamedTuple):
    """A city, its country, and the adjective of the country."""

    city: str
    country: str
    norp: str


class Topic(NamedTuple):
    """Words about one occupation."""

    agent: str
    nouns: tuple[str, ...]
    verbs: tuple[str, ...]


# Some names are also places or months (jordan, santiago, paris, florence, sydney, april), so that no list of
# words labels entities; so do surnames that are trades elsewhere (fisher, carpenter).
PEOPLE: tuple[tuple[str, ...], ...] = tuple(
    tuple(line.split())
    for line in """
    alexander hamilton|beatrice jordan|charlotte abernathy|dominic blackwood|eleanor carpenter|frederick delgado
    gabriella eriksson|harrison fitzgerald|isabella goldberg|jonathan hernandez|katarina ivanova|leonardo jefferson
    margaret kowalski|nathaniel lombardi|ophelia mcallister|patricia nakamura|quentin paris|sebastian quimby
    theodora rosenthal|ursula santiago|valentina thompson|april zimmerman|florence fisher|sydney okonkwo
    """.replace("\n", "|").split("|")
    if line.strip()
)
PLACES: tuple[Place, ...] = tuple(
    Place(*line.split())
    for line in """
    lisbon portugal portuguese|madrid spain spanish|paris france french|florence italy italian|vienna austria austrian
    budapest hungary hungarian|helsinki finland finnish|copenhagen denmark danish|athens greece greek
    istanbul turkey turkish|cairo egypt egyptian|casablanca morocco moroccan|amman jordan jordanian
    mumbai india indian|bangkok thailand thai|tokyo japan japanese|shanghai china chinese|sydney australia australian
    toronto canada canadian|santiago chile chilean
    """.replace("\n", "|").split("|")
    if line.strip()
)
TOPICS: tuple[Topic, ...] = tuple(
    Topic(agent.strip(), tuple(nouns.split()), tuple(verbs.split()))
    for agent, nouns, verbs in (
        line.split(":")
        for line in """
        baker: sourdough pastries cinnamon muffins frosting gingerbread: baked decorated
        sailor: rudder anchor mainsail lighthouse compass rigging: hoisted steered
        grandmaster: bishop pawns knights checkmate gambit tournament: captured sacrificed
        gardener: tulips orchids fertilizer greenhouse hedges compost: planted watered
        painter: canvas watercolor portraits palette easel gallery: sketched framed
        astronomer: telescope galaxies comet planets eclipse observatory: observed magnified
        goalkeeper: stadium penalty referee midfield trophy spectators: tackled kicked
        engineer: locomotive tunnels carriage platform timetable junction: boarded dispatched
        beekeeper: honey hives pollen nectar beeswax swarm: harvested pollinated
        fisherman: salmon trawler mackerel nets harpoon lobster: trapped hauled
        soprano: aria orchestra libretto chorus overture violins: sang composed
        director: documentary camera screenplay premiere comedy soundtrack: filmed edited
        geologist: volcano minerals earthquake granite fossils magma: excavated drilled
        farmer: tractor cattle barley pasture orchard livestock: plowed fenced
        pilot: cockpit propeller runway turbulence helicopter hangar: landed navigated
        programmer: software keyboard algorithm database network processor: installed debugged
        archaeologist: pyramid mummies temple inscriptions papyrus amphora: unearthed restored
        chemist: acid molecules laboratory sulfur polymer crystals: dissolved distilled
        journalist: newspaper headline editorial interview columns deadline: published reported
        dancer: ballet tango choreography waltz slippers flamenco: danced twirled
        """.splitlines()
        if line.strip()
    )
)
Value = Literal[-1, 0, 1]
# Evaluative words by value. `VERBS` take a person or a thing, `MOODS` a person; `ADJECTIVES` stand before or after a
# noun. The neutral ones stay neutral when negated.
VERBS: dict[Value, tuple[str, ...]] = {
    -1: ("criticized", "despised", "condemned", "ridiculed"),
    0: ("described", "inspected", "photographed", "mentioned"),
    1: ("admired", "praised", "recommended", "celebrated"),
}
MOODS: dict[Value, tuple[str, ...]] = {
    -1: ("annoyed", "disappointed", "frightened"),
    0: ("involved", "surrounded", "resembled"),
    1: ("delighted", "inspired", "fascinated"),
}
ADJECTIVES: dict[Value, tuple[str, ...]] = {
    -1: ("terrible", "dreadful", "miserable", "disgraceful"),
    0: ("official", "imported", "domestic", "identical"),
    1: ("wonderful", "magnificent", "excellent", "charming"),
}
FIRST_CLAUSES = (
    "{person} {verb} the {quality} {noun} in {where}",
    "in {where} {quality} {agent} {person} {verb} the {noun}",
    "{person} arrived in {where} with {quality} {noun}",
    "the {noun} from {where} {mood} {agent} {person}",
    "{person} brought {quality} {noun} to {where}",
    "{cardinal} visitors in {where} watched {person} and the {noun}",
    "{agent} {person} from {where} {opinion} the {noun}",
    "the {norp} {agent} {opinion} {person} and the {noun}",
    "{person} moved to {where} for {quality} {noun}",
)
SECOND_CLAUSES = (
    "{person} {opinion} the {norp} {noun}",
    "the {noun} in {where} {mood} {person}",
    "everybody in {where} {opinion} {person} and {noun}",
    "{person} {found} the {norp} {noun} {judgment}",
    "the {norp} {agent} {opinion} {person} and {noun}",
    "the {noun} {person} {verb} in {where} {seemed} {judgment}",
    "{where} offered {person} {quality} {noun}",
    "in {where} {noun} from {person} {seemed} {judgment}",
)
NUMBERS = ("seven", "eleven", "twelve", "fifteen", "seventeen", "twenty", "thirty", "forty", "sixty", "ninety")
FILLERS: dict[str, tuple[str, ...]] = {
    "DATE": (
        *(f"in <{m}>" for m in ("january", "february", "april", "june", "august", "september", "november", "december")),
        *(f"on <{d}>" for d in ("monday", "tuesday", "wednesday", "thursday", "saturday", "sunday")),
        *(f"<{n} {unit} later>" for n in NUMBERS[:5] for unit in ("days", "weeks", "years")),
    ),
    "TIME": ("that <evening>", "that <morning>", "after <midnight>", *(f"<{n} hours later>" for n in NUMBERS[:4])),
    "ORDINAL": ("for the <second> time", "for the <third> time", "for the <seventh> time"),
    "CARDINAL": tuple(f"after <{n}> attempts" for n in NUMBERS[:6]),
    "PERCENT": tuple(f"at <{n} percent>" for n in NUMBERS[5:]),
    "MONEY": tuple(f"for <{n} {unit}>" for n in NUMBERS[5:] for unit in ("dollars", "euros")),
    "ORG": tuple(
        f"for the <{name}>"
        for name in ("red cross", "united nations", "world bank", "liberty foundation", "supreme court")
    )
    + tuple(f"for <{name}>" for name in ("greenpeace", "interpol", "congress", "unicef")),
    "LAW": tuple(f"under the <{name}>" for name in ("fisheries act", "privacy directive", "constitution", "charter")),
    "LOC": tuple(
        f"near the <{name}>" for name in ("danube", "himalayas", "mediterranean", "sahara", "amazon", "atlantic")
    ),
    "EVENT": ("during the <olympics>", "before the <carnival>", "after the <jubilee>"),
    "PRODUCT": ("with a <polaroid>", "with an <aurora tablet>"),
}


def vocabulary() -> frozenset[str]:
    """Every word of the lists of people, places and topics."""
    words = {word for group in (*PEOPLE, *PLACES) for word in group}
    return frozenset(words | {word for t in TOPICS for word in (t.agent, *t.nouns, *t.verbs)})
