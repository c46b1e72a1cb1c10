"""High dimension: training as an equation of the overlaps of the directions, at a cost that does not know d."""

from .flow import OverlapFlow as OverlapFlow
from .online import OnlineSGD as OnlineSGD, literature_speeds as literature_speeds
