"""Questions of one's own: a row of a CSV file, or an object of JSON Lines, is a question."""

from __future__ import annotations

from collections import Counter
from os import path as osp
from typing import Any

from mmbeit3.datasets.checks.captions import path_problem, text_problem
from mmbeit3.datasets.checks.coco import Report, shortened
from mmbeit3.datasets.checks.questions import Question, answers_problem
from mmbeit3.datasets.questions import QuestionsDataset
from mmbeit3.datasets.table_rows import check_delimiter, read_rows
from mmbeit3.registry import DATASETS


@DATASETS.register_module()
class VQATableDataset(QuestionsDataset):
    """A CSV file with a header, or JSON Lines; an image may be there several times.

    The suffix tells the format: .csv, .tsv, or .jsonl (.ndjson). A question's id is the number of
    its line. In JSON Lines an answer may be a list of those of several people. With ``test_mode``
    the column of the answers may be absent.

    Args:
        ann_file (str): The table, on ``data_root``.
        image_column (str): The column, or key, with the path of the image below
            ``data_prefix.img``. Defaults to 'image'.
        question_column (str): The column, or key, with the question. Defaults to 'question'.
        answer_column (str): The column, or key, with the answer. Defaults to 'answer'.
        delimiter (str, optional): What separates the columns. Defaults to None: a comma in .csv, a
            tab in .tsv.
        **kwargs: As in :class:`mmbeit3.datasets.questions.QuestionsDataset`, which also says what
            the items are. The list of answers that is made has them as they are in the table.
    """

    kind = "table of questions"
    list_arguments = (
        *("ann_file", "image_column", "question_column", "answer_column", "delimiter"),
        *("data_root", "data_prefix", "answers", "min_count"),
    )

    def __init__(
        self,
        image_column: str = "image",
        question_column: str = "question",
        answer_column: str = "answer",
        delimiter: str | None = None,
        **kwargs: Any,
    ) -> None:
        check_delimiter(delimiter)
        self.columns = {
            "image_column": image_column,
            "question_column": question_column,
            "answer_column": answer_column,
        }
        self.delimiter = delimiter
        super().__init__(**kwargs)

    def read(self, report: Report) -> list[Question]:
        """Read the questions of the table; see the base class."""
        image, question, answer = self.columns.values()
        rows = read_rows(
            self.ann_file,
            self.columns,
            report,
            ["answer_column"] if self.test_mode else [],
            self.delimiter,
            "questions in VQAv2's format (.json) are read by mmbeit3.VQAv2Dataset",
        )
        questions, numbers = [], dict[str, int]()
        for line, row in rows:
            problem = path_problem(row[image], image) or text_problem(row[question], question)
            answers = row.get(answer, [])
            if isinstance(answers, str):
                problem = problem or text_problem(answers, answer)
                answers = [answers.strip()]
            elif answer in row:
                problem = problem or answers_problem(answers, answer)
            if problem:
                report.error(f"line {line}: {problem}")
                continue
            file = row[image]
            number = numbers.setdefault(osp.normpath(file), len(numbers))
            place = f"line {line} ({shortened(file)})"
            main = Counter(answers).most_common(1)[0][0] if answers else None
            questions.append(Question(line, row[question], number, file, place, answers, main))
        return questions
