from pilotage import Task, Text, TextWorld


class Largest(TextWorld):
    """Say the largest of four digits."""

    observation = Text(max_tokens=5, alphabet="0123456789=")
    action = Text(max_tokens=1, alphabet="0123456789")

    def make(self, rng):
        digits = "".join(str(digit) for digit in rng.integers(10, size=4))
        return Task(prompt=f"{digits}=", answer=max(digits))

    def verify(self, task, answer):
        return float(answer == task.answer)
