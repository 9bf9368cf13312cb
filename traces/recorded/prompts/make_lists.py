"""Write the two prompts here that are drawn from a seed: a list with look-ups, and hidden notes."""

from pathlib import Path
from random import Random

CITIES = [
    "Aarhus",
    "Basel",
    "Cork",
    "Dresden",
    "Evora",
    "Florence",
    "Ghent",
    "Hobart",
    "Izmir",
    "Jena",
    "Kyoto",
    "Lyon",
    "Malmo",
    "Nantes",
    "Oslo",
    "Porto",
    "Quito",
    "Riga",
    "Siena",
    "Turku",
    "Utrecht",
    "Vienna",
    "Warsaw",
    "Xiamen",
    "York",
    "Zagreb",
]
GOODS = [
    "anvils",
    "barrels",
    "candles",
    "drums",
    "easels",
    "flutes",
    "globes",
    "hammers",
    "inkwells",
    "jars",
    "kettles",
    "lamps",
    "mirrors",
    "needles",
    "oars",
    "pencils",
    "quilts",
    "ropes",
    "saddles",
    "tiles",
    "umbrellas",
    "violins",
    "wheels",
    "xylophones",
    "yokes",
]
SUBJECTS = [
    "the baker on the corner",
    "a retired sailor",
    "the librarian",
    "two students",
    "the postman",
    "my aunt",
    "a street musician",
    "the mayor's secretary",
    "the clockmaker",
    "a gardener",
    "the ferryman",
    "a painter",
]
VERBS = [
    "walked slowly past",
    "spoke for an hour about",
    "remembered",
    "had never seen",
    "wrote a letter about",
    "laughed at",
    "carefully repaired",
    "dreamt of",
    "argued over",
    "was looking for",
    "drew a picture of",
    "forgot",
]
OBJECTS = [
    "the old bridge",
    "a basket of plums",
    "the broken bell",
    "an empty boat",
    "the winter market",
    "a brass key",
    "the garden wall",
    "a map of the harbour",
    "the long tunnel",
    "an unpaid bill",
    "the blue door",
    "a lost dog",
]
ENDINGS = [
    "before the rain began",
    "while the shops were closing",
    "although nobody had asked",
    "and went home",
    "as the church clock struck four",
    "without saying why",
    "on the last day of the fair",
    "every Sunday",
    "because the road was flooded",
    "and told the children about it",
    "in the middle of the night",
]


def orders(random: Random, count: int, questions: int) -> str:
    """List orders, then look some of them up again and again."""
    rows = [
        (
            f"{number}",
            random.choice(CITIES),
            random.randrange(2, 99),
            random.choice(GOODS),
            f"{random.randrange(100, 99999) / 100:.2f}",
        )
        for number in random.sample(range(1000, 10000), count)
    ]
    lines = ["The warehouse keeps this list of orders.", ""]
    lines += [f"Order {n}: {k} {g} to {c}, {p} euros." for n, c, k, g, p in rows]
    lines += ["", "Answer each question from the list above.", ""]
    for _ in range(questions):
        number, city, amount, goods, price = random.choice(rows)
        question, answer = random.choice(
            (
                (f"Where does order {number} go?", f"Order {number} goes to {city}."),
                (f"What is in order {number}?", f"Order {number} is {amount} {goods}."),
                (f"What does order {number} cost?", f"Order {number} costs {price} euros."),
            )
        )
        lines += [f"Question: {question}", f"Answer: {answer}"]
    return "\n".join(lines) + "\n"


def notes(random: Random, sentences: int, hidden: int, questions: int) -> str:
    """Hide pass codes in plain prose, then ask for them again and again."""
    people = random.sample(
        ["Ada", "Boris", "Clara", "Dario", "Elena", "Felix", "Greta", "Hugo", "Ines", "Jonas"],
        hidden,
    )
    codes = {person: f"{random.randrange(10000, 99999)}" for person in people}
    places = dict(zip(random.sample(range(sentences), hidden), people, strict=True))
    text: list[str] = ["Somewhere in this story there are pass codes. Remember them.\n\n"]
    for number in range(sentences):
        if number in places:
            text.append(f"The pass code of {places[number]} is {codes[places[number]]}. ")
        subject = random.choice(SUBJECTS)
        sentence = f"{subject} {random.choice(VERBS)} {random.choice(OBJECTS)} "
        text.append(sentence[0].upper() + sentence[1:] + random.choice(ENDINGS) + ". ")
        if number % 7 == 6:
            text.append("\n\n")
    text.append("\n\nThe story is over. Now the questions.\n\n")
    for _ in range(questions):
        person = random.choice(people)
        text.append(f"Question: What is the pass code of {person}?\n")
        text.append(f"Answer: The pass code of {person} is {codes[person]}.\n")
    return "".join(text)


def main(folder: Path) -> None:
    """Write both texts."""
    (folder / "lookups.txt").write_text(orders(Random(11), 112, 60))
    (folder / "retrieval.txt").write_text(notes(Random(12), 225, 8, 55))


if __name__ == "__main__":
    main(Path(__file__).parent)
