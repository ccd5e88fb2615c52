"""Models that grade reasonings, over HTTP or from a folder, within limits (docs/judge.md)."""

from r1omni.judging.config import JudgeConfig, read_judge_file
from r1omni.judging.judge import Judge, Judgement, judge_of
from r1omni.judging.questions import Case

__all__ = ["Case", "Judge", "JudgeConfig", "Judgement", "judge_of", "read_judge_file"]
